"""The perfect-foresight bound: no controller that serves its people can have a lower composite."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from thesis_lib.community.kpis import SOC_EPSILON, Service, reachable
from thesis_lib.community.model import Community
from thesis_lib.controllers import linear
from thesis_lib.controllers.linear import Array, Start, Window


def relaxation(community: Community, service: Service, start: int, stop: int, counted: Array | None = None) -> Window:
    """The hours from ``start`` to ``stop`` as a window whose best plan is a bound."""
    c, d, rows = community, linear.devices(community, None), np.arange(start, stop)
    read = c.read(torch.arange(start, stop, device=c.device))

    def number(values: torch.Tensor) -> Array:
        return values.double().cpu().numpy()

    hours, cars = len(rows), c.charger_car.cpu().numpy()
    plugged = number(read.connected) > 0
    forced = number(read.forced)[:, cars]
    origin, factor, given = np.full(plugged.shape, -2), np.ones(plugged.shape), np.zeros(plugged.shape)
    at_most = np.zeros_like(plugged)
    noise, drift = number(c.drift_noise), read.drift.cpu().numpy()[:, cars] - int(c.drift_base[0])
    for k in range(c.chargers):
        last = -1  # hour of the window in which the car was last plugged in
        for hour in np.flatnonzero(plugged[:, k]):
            brings = forced[hour - 1, k] if hour else -1.0
            if brings >= 0:
                factor[hour, k], given[hour, k] = 0.0, max(brings * d.car_capacity[k], d.car_floor[k])
            elif last == hour - 1 and (hour or start == 0):
                origin[hour, k] = hour - 1
            elif last < 0:  # it came before the window: as full as it likes
                factor[hour, k], given[hour, k], at_most[hour, k] = 0.0, d.car_capacity[k], True
            else:  # what drift leaves of what it left with; the floor it is lifted to makes that convex: the chord
                draws = drift[last:hour, k]
                left = float(np.prod(noise[draws[draws >= 0]]))
                ends = [max(left * x, d.car_floor[k]) for x in (d.car_floor[k], d.car_capacity[k])]
                slope = (ends[1] - ends[0]) / (d.car_capacity[k] - d.car_floor[k])
                origin[hour, k], factor[hour, k], at_most[hour, k] = last, slope, True
                given[hour, k] = ends[0] - slope * d.car_floor[k]
            last = hour
    need = np.zeros(plugged.shape)
    s = service.sessions
    s = s[(s.departure >= start) & (s.departure < stop) & s.arrival_soc.notna()]
    goal = np.clip(s.required_soc.to_numpy() - service.tolerance, 0, None)
    s = s[reachable(service, s, s.arrival_soc.to_numpy(), s.departure - s.connected_from + 1, goal)]
    goal = s.required_soc.to_numpy() - service.tolerance - SOC_EPSILON
    need[s.departure.to_numpy() - start, s.charger.to_numpy()] = goal * d.car_capacity[s.charger.to_numpy()]
    starts = []
    for a, cycles in enumerate(c.cycle_window.tolist()):
        for n, (first, last, duration) in enumerate(cycles[:-1]):
            if first >= start and last + duration <= stop:
                profile = number(c.cycle_profile[a, n])[:duration]
                starts += [Start(a, n, hour - start, profile) for hour in range(first, last + 1)]
    begins = start == 0
    initial = number(c.start_soc[0])[cars] if begins else np.zeros(c.chargers)
    initial = np.where(initial >= 0, initial, number(c.storage_initial_soc)[c.homes + cars])
    return Window(
        net=number(read.load - read.pv),
        price=number(c.price(read).expand(-1, c.homes)),
        carbon=number(c.carbon(read).expand(-1, c.homes)),
        day=rows // c.steps_per_day,
        plugged=plugged,
        idle=np.zeros(c.chargers, bool),
        origin=origin,
        factor=factor,
        given=given,
        at_most=at_most,
        need=need,
        battery_energy=number(c.storage_initial_soc[: c.homes]) * d.battery_capacity if begins else None,
        car_energy=np.maximum(initial * d.car_capacity, d.car_floor),
        previous=None,
        peak=-np.inf,
        counted=counted,
        tie=0.0,
        starts=starts,
    )
