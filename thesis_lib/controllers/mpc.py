"""Model predictive control: plan the next 24 hours as a linear programme, do the first, plan again.

Two controllers share all but what they know of the hours ahead:

- ``mpc_forecast`` knows what a real one could: the published tariff, what the homes observe now, forecasts of load,
  PV and carbon learned on train rows (`forecast`), and of each car what its driver has disclosed. Of cars that are
  not there it knows nothing.
- ``mpc_perfect`` knows load, PV, carbon and every charging session and appliance cycle of the hours ahead: ``reset``
  reads them off the community, which no real controller could. It shows what foresight is worth.

Both see the whole community and command every device: a central controller, unlike the learner's actors. The plan is
made with constant efficiencies (`linear`); the departure guard of the learner, with its tolerance and its default
for undisclosed departures, then raises what the plan leaves too low. What the guard sees is what the controller
knows, so with perfect knowledge it sees the true departures and states of charge.

Shapes: B copies, each with a plan of its own, K hours ahead, H homes, C chargers, A appliances.
"""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thesis_lib.community.kpis import WEIGHTS, team_reward
from thesis_lib.community.model import Community
from thesis_lib.community.observations import Observer, column
from thesis_lib.community.splits import blocks
from thesis_lib.controllers import forecast, linear, rules
from thesis_lib.controllers.linear import Array, Plan, Programme, Start, Window
from thesis_lib.maddpg import guard as guards


@dataclass
class Copy:
    """What the controller remembers of one community it steers."""

    row: int = -1
    previous: float | None = None  # kWh, the district's net of the hour before
    peak: float = -np.inf  # kWh, of the day so far
    plugged: Array | None = None  # (C,) bool, in the hour before
    started: dict[int, tuple[int, int]] = field(default_factory=dict)  # appliance -> cycle started last, its row
    programme: Programme | None = None
    basis: Any = None
    past: list[Array] = field(default_factory=list)  # what the forecaster remembers, oldest first


@dataclass
class Cars:
    """The cars at the C chargers as the controller knows them, (C,)."""

    connected: Array  # bool
    departure: Array  # rows until the last connected one, -1: undisclosed
    required: Array  # SOC
    soc: Array  # before the hour


@dataclass
class Ahead:
    """The K hours ahead as the controller knows them; the first is the present one."""

    net: Array  # (K, H) kWh, load less PV
    carbon: Array  # (K, H) kg/kWh
    plugged: Array  # (K, C) bool
    arriving: Array  # (K, C) kWh that a car brings that arrives at the beginning of the hour, else NaN
    need: Array  # (K, C) kWh that the car must hold after the hour, 0 for nothing
    wanted: Array  # (C,) kWh that the car should hold at the end
    idle: Array  # (C,) bool, chargers of whose car nothing is known yet: only the guard acts
    cycles: list[tuple[int, int]]  # appliance and cycle, of those that may start


class Mpc:
    """What both controllers share; ``_ahead`` is what each knows."""

    # Files besides this one that decide what it does, for the recipe of a run.
    code = (*(Path(inspect.getfile(module)).resolve() for module in (linear, forecast, guards)),)

    def __init__(self, horizon: int = 24, tolerance: float = 0.04, efficiency_at: float = 0.4) -> None:
        """``horizon`` in rows; ``tolerance``: SOC below the required one that the guard accepts, as the learner's;
        ``efficiency_at``: share of its power at which a storage's efficiency is taken.

        Raises
        ------
        ValueError
            For a horizon below two rows.
        """
        if horizon < 2:
            raise ValueError(f"horizon must be at least 2 rows, not {horizon}")
        self.horizon, self.tolerance, self.efficiency_at = horizon, tolerance, efficiency_at
        self.seconds: list[float] = []  # wall time of each decision for one copy since reset, all steps included

    def reset(self, community: Community) -> None:
        """Begin an episode: read the constants and the tariff, fit the guard's pace on train rows.

        Raises
        ------
        KeyError, ValueError
            If a home does not observe what the controller needs.
        """
        c = self.community = community
        self.devices = linear.devices(c, self.efficiency_at)
        self.scale = reference_scale(c)
        every = c.read(torch.arange(c.rows, device=c.device))
        self.load = every.load.double().cpu().numpy()  # only its row of the present hour is used: it tells the time
        self.price = c.price(every).double().expand(-1, c.homes).cpu().numpy()
        self.pace = guards.fit_undisclosed_pace(c, blocks("train", c.rows))
        self.guard = guards.guard_of(c, self.pace, tolerance=self.tolerance)
        self.reach = (
            self.guard.reach.double().numpy()
        )  # (C, steps, required SOC in percent) SOC from which it is reached
        own = ("non_shiftable_load", "solar_generation", "electrical_storage_soc", "net_electricity_consumption")
        self.own = np.array([[column(c, home, name) for name in own] for home in range(c.homes)])
        self.carbon_at = np.array([column(c, home, "carbon_intensity") for home in range(c.homes)])
        flags = ("pending", "running", "can_start", "earliest_start_time_step")
        at = zip(c.appliance_home.tolist(), c.appliance_names, strict=True)
        self.appliance_at = [
            [column(c, home, f"deferrable_appliance_{name}_{flag}") for flag in flags] for home, name in at
        ]
        self.cycle_window = c.cycle_window.cpu().numpy()  # (A, cycles + 1, 3): first and last start, duration
        self.cycle_profile = c.cycle_profile.double().cpu().numpy()
        self.chargers = np.flatnonzero(c.charger_slot.cpu().numpy() >= 0)  # as the guard counts them
        self.least_power = c.charger_table[:-1, 2:4].double().cpu().numpy() * c.hours  # (C, 2) kWh, up and down
        self.slots = {name: getattr(c, name).cpu().numpy() for name in ("charger_slot", "appliance_slot")}
        self.battery_slot = (c.battery_slot % c.slots).cpu().numpy()
        self.battery_energy = c.battery_energy.double().cpu().numpy()
        self.solver = linear.solver(solver="simplex")
        self.copies: list[Copy] = []
        self.seconds = []

    def act(self, observations: Tensor) -> Tensor:
        """Observations (B, H, O) to actions (B, H, S); the first call after a reset may be anywhere in the data."""
        c = self.community
        if len(self.copies) != len(observations):
            self.copies = [Copy() for _ in range(len(observations))]
        seen = observations.double().cpu().numpy()
        wanted = np.zeros((len(seen), c.homes, c.slots))
        known = observations.detach().cpu().float().clone()
        for one, copy in enumerate(self.copies):
            begun = time.perf_counter()
            wanted[one], cars = self._decide(seen[one], copy)
            places = self.guard.charger_columns
            for place, values in ((1, cars.departure), (3, cars.soc)):  # as in Guard.charger_columns
                known[one, self.guard.charger_home, places[:, place]] = torch.as_tensor(values[self.chargers]).float()
            self.seconds.append(time.perf_counter() - begun)
        with torch.no_grad():
            guarded = torch.maximum(torch.as_tensor(wanted), self.guard.lower(known).double())
        low, high, mask = (x.cpu() for x in (c.action_low.double(), c.action_high.double(), c.action_mask))
        return torch.where(mask, guarded.clamp(low, high), 0.0).to(device=c.device, dtype=c.dtype)

    def _decide(self, seen: Array, copy: Copy) -> tuple[Array, Cars]:
        """Plan from one copy's observations (H, O): actions (H, S) before the guard, and the cars as known."""
        c = self.community
        homes = np.arange(c.homes)
        load, pv, soc, net = seen[homes[:, None], self.own].T
        load = load / c.load_to_observed
        if self._tell_time(load, copy):
            copy.previous = float(net.sum())
            begins = copy.row % c.steps_per_day == 0
            copy.peak = -np.inf if begins else max(copy.peak, copy.previous)
        cars = self._see_cars(seen, copy)
        hours = max(min(self.horizon, c.rows - 1 - copy.row), 1)  # the last row has no action
        ahead = self._ahead(copy, hours, seen, load, pv, cars)
        running, starts = self._see_appliances(seen, copy, hours, ahead)
        d, rows = self.devices, copy.row + np.arange(hours)
        plugged, arrives = ahead.plugged.copy(), np.isfinite(ahead.arriving)
        origin = np.where(plugged, np.arange(-1, hours - 1)[:, None], -2)
        origin[arrives] = -2
        price = self.price[rows]
        buy = (
            WEIGHTS["cost"] * price / self.scale["cost"] + WEIGHTS["emissions"] * ahead.carbon / self.scale["emissions"]
        )
        unit = float(buy.mean()) + WEIGHTS["import"] / self.scale["import"]
        window = Window(
            net=ahead.net + running,
            price=price,
            carbon=ahead.carbon,
            day=rows // c.steps_per_day,
            plugged=plugged,
            idle=ahead.idle,
            origin=origin,
            factor=np.where(arrives, 0.0, 1.0),
            at_most=np.zeros_like(plugged),
            given=np.where(arrives, np.maximum(np.nan_to_num(ahead.arriving), d.car_floor), 0.0),
            need=ahead.need,
            battery_energy=np.clip(soc * d.battery_capacity, d.battery_floor, d.battery_capacity),
            car_energy=np.maximum(cars.soc * d.car_capacity, d.car_floor),
            previous=copy.previous,
            peak=copy.peak,
            starts=starts,
            car_worth=unit,
            car_wanted=ahead.wanted,
        )
        plan = self._solve(window, copy)
        copy.plugged = cars.connected
        return self._actions(plan, starts, copy), cars

    def _tell_time(self, load: Array, copy: Copy) -> bool:
        """Which row it is: at first by the homes' loads, then one more each hour; whether there was an hour before."""
        if copy.row < 0:
            copy.row = int(np.nan_to_num(np.abs(self.load - load).sum(1), nan=np.inf).argmin())
            return False
        copy.row += 1
        return True

    def _solve(self, window: Window, copy: Copy) -> Plan:
        """The best plan; a start that this hour would make in part is made whole or left, whichever is better."""
        programme = Programme(self.devices, window, self.scale)
        programme.pass_to(self.solver)
        if copy.programme is not None:
            programme.begin_from(self.solver, copy.programme, copy.basis)
        linear.run(self.solver)
        plan = programme.read(self.solver)
        copy.programme, copy.basis = programme, self.solver.getBasis()
        for y, start in enumerate(window.starts):
            if start.hour == 0 and 1e-6 < plan.starts[y] < 1 - 1e-6:
                choices = []
                for fixed in (1.0, 0.0):
                    self.solver.changeColBounds(int(programme.start[y]), fixed, fixed)
                    linear.run(self.solver)
                    choices.append(programme.read(self.solver))
                plan = min(choices, key=lambda choice: choice.objective)
                self.solver.changeColBounds(int(programme.start[y]), *[float(plan.starts[y] > 0.5)] * 2)
        return plan

    def _actions(self, plan: Plan, starts: list[Start], copy: Copy) -> Array:
        """The first hour of a plan as actions (H, S); below a charger's least power it is nothing or that power."""
        c, d = self.community, self.devices
        actions = np.zeros((c.homes, c.slots))
        heeds = self.battery_energy > 0
        share = plan.battery[0] / np.where(heeds, self.battery_energy, 1.0)
        actions[np.flatnonzero(heeds), self.battery_slot[heeds]] = share[heeds]
        power = plan.chargers[0]
        least = np.where(power > 0, self.least_power[:, 0], self.least_power[:, 1])
        size = np.where(np.abs(power) < 0.5 * least, 0.0, np.maximum(np.abs(power), least * (1 + 1e-6)))
        full = np.where(power > 0, d.charge_power, d.discharge_power)
        share = np.sign(power) * size / np.where(full > 0, full, 1.0)
        share[np.abs(power) < 1e-7] = 0.0
        for k in self.chargers:
            actions[d.charger_home[k], self.slots["charger_slot"][k]] = share[k]
        for y, start in enumerate(starts):
            slot = self.slots["appliance_slot"][start.appliance]
            if start.hour == 0 and plan.starts[y] > 0.5 and slot >= 0:
                actions[d.appliance_home[start.appliance], slot] = 1.0
                copy.started[start.appliance] = (start.cycle, copy.row)
        return actions

    def _see_cars(self, seen: Array, copy: Copy) -> Cars:
        """What the homes observe of the cars at their chargers."""
        home, places = self.guard.charger_home.numpy(), self.guard.charger_columns.numpy()
        values = np.full((4, self.community.chargers), -1.0)
        values[:, self.chargers] = seen[home[:, None], places].T
        return Cars(values[0] > 0.5, values[1], values[2], values[3])

    def _see_appliances(self, seen: Array, copy: Copy, hours: int, ahead: Ahead) -> tuple[Array, list[Start]]:
        """What running appliances will use (K, H) in kWh, and the starts that can be chosen."""
        c = self.community
        running, starts = np.zeros((hours, c.homes)), []
        for a, places in enumerate(self.appliance_at):
            home = int(self.devices.appliance_home[a])
            _, is_running, can_start, _ = seen[home, places]
            if is_running > 0.5 and a in copy.started:
                cycle, since = copy.started[a]
                left = self.cycle_profile[a, cycle, copy.row - since :][:hours]
                running[: len(left), home] += left
            for which, cycle in ahead.cycles:
                if which != a:
                    continue
                first, last, duration = (int(x) for x in self.cycle_window[a, cycle])
                profile = self.cycle_profile[a, cycle, :duration]
                for hour in range(max(first - copy.row, 0), min(last - copy.row, hours - 1) + 1):
                    if hour > 0 or can_start > 0.5:
                        starts.append(Start(a, cycle, hour, profile))
        return running, starts

    def _shown_cycle(self, seen: Array, a: int) -> tuple[int | None, bool]:
        """The appliance's cycle on show, and whether it is still to be started."""
        c, places = self.community, self.appliance_at[a]
        pending, running, _, earliest = seen[int(self.devices.appliance_home[a]), places]
        shown = np.flatnonzero(self.cycle_window[a, :, 0] + c.first_row == round(earliest))
        return (int(shown[0]) if len(shown) else None), bool(pending > 0.5 and running <= 0.5)

    def _reaching(self, charger: int, steps: float, target: float) -> float:
        """SOC from which ``steps`` rows at full power bring a car to ``target``."""
        table = self.reach[np.searchsorted(self.chargers, charger)]
        return float(np.interp(target, np.linspace(0, 1, table.shape[1]), table[min(int(steps), len(table) - 1)]))

    def _promise(self, ahead: Ahead, charger: int, last: int, target: float) -> None:
        """Enter a departure whose last connected row is ``last`` hours ahead."""
        capacity, hours = self.devices.car_capacity[charger], len(ahead.need)
        if last < hours:
            ahead.need[last, charger] = target * capacity
        else:
            ahead.need[-1, charger] = self._reaching(charger, last - hours + 1, target) * capacity
            ahead.wanted[charger] = target * capacity

    def _ahead(self, copy: Copy, hours: int, seen: Array, load: Array, pv: Array, cars: Cars) -> Ahead:
        raise NotImplementedError


class MpcPerfect(Mpc):
    """Knows the hours ahead as they will be: load, PV, carbon, charging sessions and appliance cycles.

    Only what nobody gives stays unknown: a car whose arrival SOC is not in the data is planned with its least one.
    """

    def reset(self, community: Community) -> None:
        """Begin an episode: besides the constants, read the whole future of the community.

        Raises
        ------
        KeyError, ValueError
            If a home does not observe what the controller needs.
        """
        super().reset(community)
        c = community
        every = c.read(torch.arange(c.rows, device=c.device))
        net = (every.load - every.pv).double().cpu().numpy()
        self.net, self.carbon = net, c.carbon(every).double().expand(-1, c.homes).cpu().numpy()
        self.required = every.required_soc.double().cpu().numpy()
        self.connected, self.leaving = departures(c)
        cars = c.charger_car.cpu().numpy()
        forced = every.forced.double().cpu().numpy()[:, cars]
        arrival = np.full_like(forced, np.nan)  # (T, C) SOC that a car has on entering its first row
        arrival[1:] = np.where((forced[:-1] >= 0) & self.connected[1:], forced[:-1], np.nan)
        self.brought = arrival
        arrives = np.zeros_like(self.connected)
        arrives[1:] = self.connected[1:] & ~self.connected[:-1]
        self.arriving = np.where(arrives & np.isnan(arrival), 0.0, arrival)

    def _know(self, cars: Cars, row: int) -> None:
        """Put the true SOC and departure in place of what the homes observe."""
        brought = self.brought[row]
        cars.soc = np.where(np.isfinite(brought), brought, cars.soc)  # the homes observe the SOC of the row before
        for k in np.flatnonzero(cars.connected):
            soon = np.flatnonzero(self.leaving[row : row + self.reach.shape[1], k])
            cars.departure[k] = soon[0] if len(soon) else cars.departure[k]

    def _ahead(self, copy: Copy, hours: int, seen: Array, load: Array, pv: Array, cars: Cars) -> Ahead:
        c, d, row = self.community, self.devices, copy.row
        rows = slice(row, row + hours)
        self._know(cars, row)
        arriving = self.arriving[rows] * d.car_capacity
        arriving[0] = np.nan
        ahead = Ahead(
            net=self.net[rows],
            carbon=self.carbon[rows],
            plugged=self.connected[rows],
            arriving=arriving,
            need=np.zeros((hours, c.chargers)),
            wanted=np.zeros(c.chargers),
            idle=np.zeros(c.chargers, bool),
            cycles=[],
        )
        for k in self.chargers:
            last = np.flatnonzero(self.leaving[rows, k])
            for hour in last:
                self._promise(ahead, int(k), int(hour), self.required[row + hour, k] - self.tolerance)
            if self.connected[row + hours - 1, k] and not self.leaving[row + hours - 1, k]:
                later = np.flatnonzero(self.leaving[row + hours : row + hours + self.reach.shape[1], k])
                if len(later):
                    at = hours + int(later[0])
                    self._promise(ahead, int(k), at, self.required[row + at, k] - self.tolerance)
        for a in range(c.appliances):
            shown, pending = self._shown_cycle(seen, a)
            if shown is not None:
                first = shown if pending else shown + 1
                ahead.cycles += [
                    (a, n)
                    for n in range(first, self.cycle_window.shape[1] - 1)
                    if self.cycle_window[a, n, 0] < row + hours
                ]
        return ahead


class MpcForecast(Mpc):
    """Knows what a real controller could, and nothing of the hours ahead but forecasts and disclosures.

    A car that has just been plugged in shows its SOC an hour late; until then only the guard acts on it, and the plan
    takes the mean arrival of its train sessions. A car whose departure is not disclosed is planned to stay, and to
    gain charge at the guard's pace. A car that is away does not come back within the horizon. Of appliances it knows
    the cycle on show.
    """

    def reset(self, community: Community) -> None:
        """Begin an episode: besides the constants, learn the forecasts from the train rows.

        Raises
        ------
        KeyError, ValueError
            If a home does not observe what the controller needs, or no train block is as long as a forecast.
        """
        super().reset(community)
        c = community
        self.forecasters = forecast.forecasters(c, c.steps_per_day, self.horizon - 1)
        self.usual_arrival = mean_arrival(c)

    def _ahead(self, copy: Copy, hours: int, seen: Array, load: Array, pv: Array, cars: Cars) -> Ahead:
        c, d = self.community, self.devices
        carbon = seen[np.arange(c.homes), self.carbon_at]
        copy.past.insert(0, np.concatenate([load, pv, carbon[:1]]))
        del copy.past[c.steps_per_day :]
        past = np.stack(copy.past)
        parts = {"load": past[:, : c.homes], "pv": past[:, c.homes : -1], "carbon": past[:, -1:]}
        later = {name: self.forecasters[name](copy.row, parts[name], hours - 1) for name in parts}
        new = cars.connected & ~(np.ones_like(cars.connected) if copy.plugged is None else copy.plugged)
        soc = np.where(new, self.usual_arrival, cars.soc)  # of the plan only; the guard sees what the home sees
        known = cars.departure >= 0
        leaves_in = np.where(known, cars.departure, hours)
        arriving = np.full((hours, c.chargers), np.nan)
        ahead = Ahead(
            net=np.vstack([load - pv, later["load"] - later["pv"]]),
            carbon=np.vstack([carbon, np.broadcast_to(later["carbon"], (hours - 1, c.homes))]),
            plugged=cars.connected & (np.arange(hours)[:, None] <= leaves_in),
            arriving=arriving,
            need=np.zeros((hours, c.chargers)),
            wanted=np.zeros(c.chargers),
            idle=new,
            cycles=[],
        )
        for k in self.chargers:
            if not cars.connected[k]:
                continue
            target = cars.required[k] - self.tolerance
            if new[k]:
                ahead.arriving[0, k] = soc[k] * d.car_capacity[k]
            if known[k]:
                self._promise(ahead, int(k), int(cars.departure[k]), target)
            else:
                paced = np.minimum(target, soc[k] + self.pace * np.arange(1, hours + 1))
                ahead.need[:, k] = paced * d.car_capacity[k]
        for a in range(c.appliances):
            shown, pending = self._shown_cycle(seen, a)
            if shown is not None and pending:
                ahead.cycles.append((a, shown))
        return ahead


def mean_arrival(community: Community) -> Array:
    """Mean SOC (C,) with which a car arrives at each charger in train rows; a half where none does."""
    c = community
    train = np.concatenate([np.arange(begin, end - 1) for begin, end in blocks("train", c.rows)])
    rows = c.read(torch.as_tensor(train, device=c.device))
    brought = rows.forced.double().cpu().numpy()[:, c.charger_car.cpu().numpy()]
    counted = brought >= 0
    return np.where(counted.any(0), (brought * counted).sum(0) / np.maximum(counted.sum(0), 1), 0.5)


def departures(community: Community) -> tuple[Array, Array]:
    """Who is plugged in, and the departures that CityLearn counts.

    Returns:
        Two boolean arrays (T, C): connected, and last row before a departure: the car leaves or another comes, or
        the countdown jumps up while it stays plugged in (docs/protocol.md, Departures). The last row of the data
        ends no session.

    Source:
        `kpis.Service`.
    """
    rows = community.read(torch.arange(community.rows, device=community.device))
    connected = (rows.connected > 0).cpu().numpy()
    car, left = rows.car.cpu().numpy(), rows.departure.double().cpu().numpy()
    leaves = np.zeros_like(connected)
    ends = ~connected[1:] | (car[1:] != car[:-1]) | ((left[:-1] <= 1) & (left[1:] > left[:-1]))
    leaves[:-1] = connected[:-1] & ends
    return connected, leaves


def reference_scale(community: Community) -> dict[str, float]:
    """Business as usual's mean per hour of each term of the composite, on train rows, in the fast model.

    Args:
        community: whose train blocks are rolled, each begun anew, all for an hour less than the shortest has (335).

    Returns:
        Term -> EUR, kg, kWh, kW, kWh per row: what a unit of the term is divided by.

    Source:
        As the learner's reward, which counts that hour too: docs/protocol.md.
    """
    c = community.to("cpu")
    train = torch.tensor(blocks("train", c.rows))
    hours = int((train[:, 1] - train[:, 0]).min()) - 1
    controller, observer = rules.BusinessAsUsual(), Observer(c)
    controller.reset(c)
    state = c.reset(len(train), train[:, 0], hours)
    totals = dict.fromkeys(WEIGHTS, 0.0)
    with torch.no_grad():
        for _ in range(hours):
            rows, before = c.read(state.row), state
            state, flows = c.step(state, controller.act(observer(state, rows)), rows)
            new_day = before.row % c.steps_per_day == 0
            for term in WEIGHTS:
                one = {term: 1.0}
                cost = (flows.net, flows.cost, flows.emissions, before.net.sum(-1), before.day_peak, new_day)
                totals[term] -= float(team_reward(*cost, one, one).mean())
    return {term: total / hours for term, total in totals.items()}
