"""The departure guard: the least charging that still keeps every promise, as a differentiable layer of the policy.

A car may do what the actor likes as long as, after this hour, full power would still bring it to its required SOC
in time; otherwise the guard raises the action to the least that does. It knows only what the home observes:
connected, hours left, required SOC, SOC. An appliance that cannot wait another hour is started.

The idea is a reachability table. With F the SOC after an hour at full power, M_0(r) = r and
M_n(r) = min {s : F(s) >= M_{n-1}(r)} is the lowest SOC from which r is still reached by n hours at full power.
While n more hours follow this one the SOC after this one must be at least M_n(r); the least action that gives a
SOC gain is a second table. Both are computed once per charger from CityLearn's physics and then only looked up, so
that the layer is gathers, products and maxima: gradients pass, ONNX exports it, and no value decides a branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thesis_lib.community.model import Community

REQUIRED_GRID = 101  # required SOC 0, 1, ... 100 %
GAIN_GRID = 513  # SOC gains at which the least action is tabulated
SOC_GRID = 8001


@dataclass(frozen=True)
class ChargerPhysics:
    """A charger and its car: powers in kW, capacity in kWh, curves as in CityLearn's ``Battery``.

    ``efficiency_curve``: (2, n) power over nominal power -> efficiency of the battery (its root counts, once);
    ``power_curve``: (2, n) SOC -> largest power over nominal power.
    """

    power: float
    power_min: float
    discharge_power: float
    discharge_power_min: float
    efficiency: float
    capacity: float
    car_power: float
    car_min_soc: float
    efficiency_curve: np.ndarray
    power_curve: np.ndarray
    standby_loss: float = 0.0  # share of the SOC lost per step
    hours: float = 1.0  # hours per step

    def leg(self, power: np.ndarray) -> np.ndarray:
        """Efficiency of one leg at a battery power in kW (``Battery.get_current_efficiency``, root)."""
        x, y = self.efficiency_curve
        return np.sqrt(np.interp(np.minimum(np.abs(power) / self.car_power, 1.0), x, y))

    def power_limit(self, soc: np.ndarray) -> np.ndarray:
        """Largest battery power in kW at a SOC (``Battery.get_max_input_power``)."""
        x, y = self.power_curve
        return self.car_power * np.interp(soc, x, y)

    def full_power(self, soc: np.ndarray) -> np.ndarray:
        """SOC after one step at full charging power, without ageing."""
        soc = np.maximum(soc * (1.0 - self.standby_loss), self.car_min_soc)
        power = np.minimum(self.power * self.efficiency, self.power_limit(soc))
        return np.minimum(soc + power * self.leg(power) * self.hours / self.capacity, 1.0)


def reach_table(charger: ChargerPhysics) -> np.ndarray:
    """M_n(r), (N + 1, REQUIRED_GRID) in SOC: the lowest from which n full-power steps reach r.

    N is the number of steps after which an empty car reaches 100 %, or 96 where it never does.
    """
    soc = np.linspace(0.0, 1.0, SOC_GRID)
    # Near full a higher SOC may charge less: count only what every higher SOC reaches too.
    after = np.minimum.accumulate(charger.full_power(soc)[::-1])[::-1]
    table = [np.linspace(0.0, 1.0, REQUIRED_GRID)]
    while table[-1].max() > charger.car_min_soc and len(table) <= 96:
        target = table[-1]
        above = np.clip(np.searchsorted(after, target, side="left"), 0, SOC_GRID - 1)
        below = np.maximum(above - 1, 0)
        rise = after[above] - after[below]
        part = np.where(rise > 0, (target - after[below]) / np.where(rise > 0, rise, 1.0), 1.0)
        needed = soc[below] + np.clip(part, 0.0, 1.0) * (soc[above] - soc[below])
        # Acting lifts a car to its floor, so less is never needed; between columns this errs on the safe side.
        table.append(np.minimum(np.maximum(needed, charger.car_min_soc), target))
    return np.stack(table)


def action_table(charger: ChargerPhysics) -> tuple[float, float, np.ndarray]:
    """The least action that gives a SOC gain (negative: the deepest discharge that loses no more).

    Returns the first gain, the spacing and the actions (GAIN_GRID,), which run from -1 to 1.
    """
    action = np.linspace(0.0, 1.0, 4001)
    charged = action * charger.power * charger.efficiency
    drawn = action * charger.discharge_power / charger.efficiency
    gain = charged * charger.leg(charged) * charger.hours / charger.capacity
    loss = drawn / charger.leg(drawn) * charger.hours / charger.capacity
    losses, discharging = (-loss[:0:-1], -action[:0:-1]) if loss[-1] > 0 else (np.empty(0), np.empty(0))
    gains, actions = np.concatenate([losses, gain]), np.concatenate([discharging, action])
    grid = np.linspace(gains[0], gains[-1], GAIN_GRID)
    return float(grid[0]), float(grid[1] - grid[0]), np.interp(grid, gains, actions)


@dataclass(frozen=True)
class ChargerSlot:
    """Where a charger stands: its home, its action slot and the columns it is observed in."""

    home: int
    slot: int
    connected: int
    departure_time: int
    required_soc: int
    soc: int
    physics: ChargerPhysics


@dataclass(frozen=True)
class ApplianceSlot:
    """Where an appliance stands: its home, its action slot and the columns it is observed in."""

    home: int
    slot: int
    can_start: int
    hours_until_latest_start: int
    hours_until_deadline: int
    duration_steps: int
    hours: float = 1.0  # hours per step


class Guard(nn.Module):
    """Raises actions (B, H, S) to the least that keeps departures and deadlines within reach.

    ``undisclosed_pace``: while a connected car's departure is undisclosed (countdown -1), it gains at least this
    much SOC a step until it has what it requires, and keeps that. Fitted on train sessions.
    ``spare_steps``: plan for a departure that many hours before the disclosed one.
    ``tolerance``: SOC below the required one that still counts as kept.
    """

    action_low: Tensor
    reach: Tensor
    least: Tensor
    first_gain: Tensor
    gain_step: Tensor
    power_share_min: Tensor
    floor: Tensor
    kept: Tensor
    charger_low: Tensor
    charger_home: Tensor
    charger_columns: Tensor
    appliance_home: Tensor
    appliance_columns: Tensor
    appliance_hours: Tensor
    place: Tensor

    def __init__(
        self,
        chargers: list[ChargerSlot],
        appliances: list[ApplianceSlot],
        action_low: Tensor,
        undisclosed_pace: float,
        spare_steps: int = 0,
        tolerance: float = 0.0,
    ):
        """``action_low``: (H, S), the bounds that hold where the guard asks for nothing."""
        super().__init__()
        self.undisclosed_pace, self.spare_steps, self.tolerance = undisclosed_pace, spare_steps, tolerance
        homes, slots = action_low.shape
        reach = [reach_table(charger.physics) for charger in chargers]
        steps = max([len(table) for table in reach], default=1)
        actions = [action_table(charger.physics) for charger in chargers]

        def buffer(name: str, values: Any, dtype: torch.dtype = torch.float32) -> None:
            self.register_buffer(name, torch.as_tensor(np.asarray(values), dtype=dtype), persistent=False)

        self.register_buffer("action_low", action_low.clone().float(), persistent=False)
        self.steps = steps
        # One row per charger; beyond its own N a charger keeps its last row: it can be reached from the floor.
        buffer("reach", [np.pad(t, ((0, steps - len(t)), (0, 0)), mode="edge") for t in reach] or np.zeros((0, 1, 101)))
        buffer("least", [table for _, _, table in actions] or np.zeros((0, GAIN_GRID)))
        buffer("first_gain", [first for first, _, _ in actions])
        buffer("gain_step", [step for _, step, _ in actions])
        # A millionth more, or float32 may round it into the deadband, where nothing happens.
        buffer("power_share_min", [c.physics.power_min / c.physics.power * (1 + 1e-6) for c in chargers])
        buffer("floor", [c.physics.car_min_soc for c in chargers])
        buffer("kept", [1.0 - c.physics.standby_loss for c in chargers])
        buffer("charger_low", [float(action_low[c.home, c.slot]) for c in chargers])
        buffer("charger_home", [c.home for c in chargers], torch.long)
        names = ("connected", "departure_time", "required_soc", "soc")
        buffer("charger_columns", [[getattr(c, n) for n in names] for c in chargers] or np.zeros((0, 4)), torch.long)
        buffer("appliance_home", [a.home for a in appliances], torch.long)
        names = ("can_start", "hours_until_latest_start", "hours_until_deadline", "duration_steps")
        columns = [[getattr(a, n) for n in names] for a in appliances]
        buffer("appliance_columns", columns or np.zeros((0, 4)), torch.long)
        buffer("appliance_hours", [a.hours for a in appliances])
        # (C + A, H * S) puts each charger's and appliance's bound in its slot
        place = np.zeros((len(chargers) + len(appliances), homes * slots))
        owners = [(c.home, c.slot) for c in chargers] + [(a.home, a.slot) for a in appliances]
        for row, (home, slot) in enumerate(owners):
            place[row, home * slots + slot] = 1.0
        buffer("place", place)

    def chargers(self, observations: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is observed of each charger, all (B, C): connected (1 or 0), hours left (-1: undisclosed), required
        SOC, SOC. Only the last passes a gradient: the others are the car's."""
        places = (self.charger_home.unsqueeze(1) * observations.shape[2] + self.charger_columns).T
        flat = observations.flatten(1)
        connected, departure, required = flat.detach()[:, places[:3]].unbind(1)
        return connected, departure, required, flat.index_select(1, places[3])

    def margins(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Connected (B, C) as 0 or 1, and the SOC gain (B, C) that this hour must bring (negative: may lose)."""
        connected, departure, required, soc = self.chargers(observations)
        target = (required - self.tolerance).clamp(0, 1)
        steps = (departure - self.spare_steps).clamp(0, self.steps - 1).long()
        percent = target * (REQUIRED_GRID - 1)
        below = percent.floor().clamp(max=REQUIRED_GRID - 2)
        part, column = percent - below, below.long()
        table = self.reach.flatten()
        row = (torch.arange(len(self.floor), device=steps.device) * self.steps + steps) * REQUIRED_GRID + column
        needed = table[row] * (1 - part) + table[row + 1] * part
        soc = torch.maximum(soc * self.kept, self.floor)
        undisclosed = (target - soc).clamp(max=self.undisclosed_pace)
        return connected, torch.where(departure < 0, undisclosed, needed - soc)

    def action_for(self, gain: Tensor) -> Tensor:
        """The least action (B, C) that brings a SOC gain (B, C) in one hour; negative: the deepest discharge."""
        place = ((gain - self.first_gain) / self.gain_step).clamp(0, GAIN_GRID - 1)
        below = place.detach().floor().clamp(max=GAIN_GRID - 2)
        part, column = place - below, below.long()
        row = torch.arange(len(self.floor), device=column.device) * GAIN_GRID + column
        table = self.least.flatten()
        action = table[row] * (1 - part) + table[row + 1] * part
        # Below the charger's least power nothing would happen.
        return torch.where(action > 0, torch.maximum(action, self.power_share_min), action)

    def least_actions(self, observations: Tensor, margins: tuple[Tensor, Tensor]) -> Tensor:
        """The least admissible action of each charger and appliance, (B, C + A)."""
        connected, gain = margins
        action = self.action_for(gain)
        action = torch.where(connected > 0.5, torch.maximum(action, self.charger_low), self.charger_low)
        columns = self.appliance_columns.expand(len(observations), -1, -1)
        seen = observations.detach()[:, self.appliance_home].gather(2, columns)
        can_start, latest, deadline, duration = seen.unbind(2)
        slack = torch.minimum(latest, deadline - (duration - 1) * self.appliance_hours)
        start = (can_start > 0.5) & (slack < 0.5 * self.appliance_hours)
        return torch.cat([action, start.to(action.dtype)], dim=1)

    def lower(self, observations: Tensor, least: Tensor | None = None) -> Tensor:
        """The least admissible action (B, H, S) given observations (B, H, O); ``least_actions`` where at hand."""
        if least is None:
            least = self.least_actions(observations, self.margins(observations))
        low = (least @ self.place).view(-1, *self.action_low.shape)
        return low + ((1.0 - self.place.sum(0)).view(self.action_low.shape) * self.action_low)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Guarded actions (B, H, S) from observations (B, H, O) and actions (B, H, S)."""
        return torch.maximum(actions, self.lower(observations))


def guard_of(community: Community, undisclosed_pace: float, spare_steps: int = 0, tolerance: float = 0.0) -> Guard:
    """The guard of a community: its chargers' and cars' physics and the columns they are observed in.

    A charger is taken with the first car it ever holds. A charger or appliance without an action has no guard.

    Raises:
        ValueError: a home does not observe what its guard needs.
    """
    c = community
    share = torch.linspace(0, 1, 2001, dtype=torch.float64)
    grid = share.to(c.dtype).unsqueeze(1).expand(-1, c.homes + c.cars)
    efficiency, limit = (curve(grid).double().cpu().numpy() for curve in (c.efficiency_curve, c.power_curve))
    kept = c.read(torch.arange(c.rows, device=c.device)).keep.double().cpu().numpy()
    constants = {
        name: getattr(c, f"charger_{name}").tolist()
        for name in ("home", "slot", "car", "charge_max", "charge_min", "discharge_max", "discharge_min", "efficiency")
    }
    capacity, power, floor = (getattr(c, f"storage_{n}").tolist() for n in ("capacity", "power", "minimum_soc"))

    def column(home: int, name: str) -> int:
        if name not in c.observation_names[home]:
            raise ValueError(f"{c.home_names[home]} does not observe {name}: the guard needs it; set guard: false")
        return c.observation_names[home].index(name)

    chargers, appliances = [], []
    for k, name in enumerate(c.charger_names):
        home, slot, car = (constants[key][k] for key in ("home", "slot", "car"))
        if slot < 0:
            continue
        connected = f"connected_electric_vehicle_at_charger_{name}"
        storage = c.homes + car
        physics = ChargerPhysics(
            power=constants["charge_max"][k],
            power_min=constants["charge_min"][k],
            discharge_power=constants["discharge_max"][k],
            discharge_power_min=constants["discharge_min"][k],
            efficiency=constants["efficiency"][k],
            capacity=capacity[storage],
            car_power=power[storage],
            car_min_soc=floor[storage],
            efficiency_curve=np.stack([share.numpy(), efficiency[:, storage]]),
            power_curve=np.stack([share.numpy(), limit[:, storage]]),
            standby_loss=float(1.0 - np.nanmin(kept[:, car])),  # a constant, whatever rows are blanked
            hours=c.hours,
        )
        chargers.append(
            ChargerSlot(
                home,
                slot,
                column(home, f"electric_vehicle_charger_{name}_connected_state"),
                column(home, f"{connected}_departure_time"),
                column(home, f"{connected}_required_soc_departure"),
                column(home, f"{connected}_soc"),
                physics,
            )
        )
    for name, home, slot in zip(c.appliance_names, c.appliance_home.tolist(), c.appliance_slot.tolist(), strict=True):
        if slot >= 0:
            names = ("can_start", "hours_until_latest_start", "hours_until_deadline", "cycle_duration_steps")
            start, latest, deadline, duration = (
                column(home, f"deferrable_appliance_{name}_{field}") for field in names
            )
            appliances.append(ApplianceSlot(home, slot, start, latest, deadline, duration, c.hours))
    return Guard(chargers, appliances, c.action_low.cpu(), undisclosed_pace, spare_steps, tolerance)


def fit_undisclosed_pace(community: Community, blocks: list[tuple[int, int]]) -> float:
    """The slowest pace, in SOC a step, at which every car that hides its departure has what it requires when it tells.

    ``blocks``: [start, stop) row ranges of the train split; sessions that are hidden across an edge do not count.
    0 where no session hides its departure.
    """
    c, pace = community, 0.0
    for start, stop in blocks:
        seen = c.read(torch.arange(start, stop, device=c.device))
        hidden = (seen.connected > 0) & (seen.departure < 0)
        for k in range(c.chargers):
            column = [False, *hidden[:, k].tolist(), False]
            edges = [i for i in range(1, len(column)) if column[i] != column[i - 1]]
            for first, end in zip(edges[::2], edges[1::2], strict=True):  # 1-based: rows first - 1 ... end - 2
                if first == 1 or end == len(column) - 1:
                    continue
                arrival = float(seen.forced[first - 2, c.charger_car[k]])
                if arrival >= 0:
                    pace = max(pace, (float(seen.required_soc[first - 1, k]) - arrival) / (end - first))
    return pace
