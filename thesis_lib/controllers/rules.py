"""The rules: what people do today, and what a careful one would do. Batched, no loop over homes or chargers.

Shapes: B copies, H homes, C chargers, A appliances, S action slots, O observations.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from thesis_lib.community.model import Community
from thesis_lib.community.observations import column


class Plugged(NamedTuple):
    """What each charger's home sees of the car at it, (B, C)."""

    connected: Tensor  # bool
    hours: Tensor  # rows until the last one it is plugged in, -1 while not disclosed
    required: Tensor  # SOC asked for at departure
    soc: Tensor
    capacity: Tensor  # kWh


class Rule:
    """Where the observations of one community lie, and where its actions go."""

    community: Community

    def reset(self, community: Community) -> None:
        """Find the columns and slots this rule reads and writes.

        Raises
        ------
        KeyError
            If a home does not observe its load, PV, battery, charger or appliance.
        """
        c = self.community = community

        def columns(template: str, homes: list[int], names: list[str]) -> Tensor:
            found = [column(c, home, template.format(name)) for home, name in zip(homes, names, strict=True)]
            return torch.tensor(found, dtype=torch.long, device=c.device)

        every = list(range(c.homes))
        own = ("non_shiftable_load", "solar_generation", "electrical_storage_soc")
        self._own = {name: columns(name, every, c.home_names) for name in own}
        at = "connected_electric_vehicle_at_charger_{}_"
        names = {
            "connected": "electric_vehicle_charger_{}_connected_state",
            "hours": at + "departure_time",
            "required": at + "required_soc_departure",
            "soc": at + "soc",
            "capacity": at + "battery_capacity",
        }
        homes = c.charger_home.tolist()
        self._plugged = {key: columns(name, homes, c.charger_names) for key, name in names.items()}
        homes = c.appliance_home.tolist()
        flags = ("pending", "running", "can_start", "deadline_missed", "earliest_start_time_step")
        of = "deferrable_appliance_{}_"
        self._appliance = {flag: columns(of + flag, homes, c.appliance_names) for flag in flags}
        self._homes = torch.arange(c.homes, device=c.device)
        self._has_battery = c.battery_energy > 0
        self._battery_slot = c.battery_slot % c.slots  # the model numbers slots over all homes

    def act(self, observations: Tensor) -> Tensor:
        """Observations (B, H, O) to actions (B, H, S)."""
        cars = self._cars(self._see_cars(observations))
        starts, _ = self._appliances(observations)
        return self._place(self._batteries(observations, cars, starts), cars, starts)

    def _cars(self, cars: Plugged) -> Tensor:
        """Charging actions (B, C)."""
        raise NotImplementedError

    def _batteries(self, observations: Tensor, cars: Tensor, starts: Tensor) -> Tensor:
        """Battery actions (B, H), knowing what cars and appliances are about to do; idle unless overridden."""
        return observations.new_zeros(len(observations), self.community.homes)

    def _see_cars(self, observations: Tensor) -> Plugged:
        seen = {key: observations[:, self.community.charger_home, at] for key, at in self._plugged.items()}
        return Plugged(**{**seen, "connected": seen["connected"] > 0.5})

    def _appliances(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Start each appliance as soon as it can: action (B, A), and the energy (B, A) of its first hour, kWh."""
        c = self.community
        seen = {flag: observations[:, c.appliance_home, at] for flag, at in self._appliance.items()}
        start = (seen["pending"] > 0.5) & (seen["running"] <= 0.5)
        start &= (seen["can_start"] > 0.5) & (seen["deadline_missed"] <= 0.5)
        shown = seen["earliest_start_time_step"].unsqueeze(-1) == c.cycle_earliest  # (B, A, cycles)
        first = (shown * c.cycle_profile[..., 0]).sum(-1)
        return start.to(observations.dtype), torch.where(start, first, 0.0)

    def _place(self, batteries: Tensor, cars: Tensor, starts: Tensor) -> Tensor:
        c = self.community
        actions = batteries.new_zeros(len(batteries), c.homes, c.slots)
        actions[:, self._homes, self._battery_slot] = torch.where(self._has_battery, batteries, 0.0)
        chargers, appliances = (
            (c.charger_home, c.charger_slot, cars),
            (c.appliance_home, c.appliance_slot, starts),
        )
        for home, slot, values in (chargers, appliances):
            active = slot >= 0
            actions[:, home[active], slot[active]] = values[:, active]
        return torch.where(c.action_mask, actions.clamp(c.action_low, c.action_high), 0.0)


class ChargeOnArrival(Rule):
    """Nobody thinks: batteries idle, cars at full power until full, appliances at the earliest."""

    def _cars(self, cars: Plugged) -> Tensor:
        return cars.connected.to(cars.soc.dtype)  # a full battery takes no more


class BusinessAsUsual(Rule):
    """CityLearn's own reference: batteries for self-consumption, cars spread to full, appliances at once.

    Source: CityLearn 3.0.2 ``citylearn.agents.baseline.BusinessAsUsualAgent`` with its defaults; the same
    actions to the last bit.
    """

    target = 1.0  # SOC cars are charged to
    margin = 0.02  # added to the spread rate, share of full power
    close_enough = 0.01  # SOC below the target at which charging stops
    deadband = 0.05  # kW of surplus or deficit that the battery leaves alone
    least_soc, most_soc = 0.2, 0.9  # between which the battery works

    def _cars(self, cars: Plugged) -> Tensor:
        c = self.community
        hours = torch.where(cars.hours == 0, 1.0, cars.hours).clamp_min(1e-6)
        rate = (self.target - cars.soc) * cars.capacity / (hours * c.charger_charge_max)
        rate = torch.maximum(rate + self.margin, c.charger_charge_min / c.charger_charge_max).clamp(0.0, 1.0)
        charging = cars.connected & (cars.soc < self.target - self.close_enough) & (c.charger_charge_max > 0)
        return torch.where(charging, rate, 0.0)

    def _batteries(self, observations: Tensor, cars: Tensor, starts: Tensor) -> Tensor:
        c = self.community
        seen = {name: observations[:, self._homes, at] for name, at in self._own.items()}
        soc = seen["electrical_storage_soc"] * c.battery_keep
        _, first_hour = self._appliances(observations)
        load = seen["non_shiftable_load"].clamp_min(0.0) / c.load_to_observed / c.hours
        charging = torch.zeros_like(load).index_add(1, c.charger_home, cars * c.charger_charge_max)
        running = torch.zeros_like(load).index_add(1, c.appliance_home, first_hour / c.hours)
        net = load + charging + running - seen["solar_generation"].abs() / c.hours
        power = c.storage_power[: c.homes]
        store = (net < -self.deadband) & (soc < self.most_soc)
        use = (net > self.deadband) & (soc > self.least_soc)
        share = torch.minimum(net.abs(), power) / power
        return torch.where(store, share, torch.where(use, -share, 0.0))


class SpreadCharging(BusinessAsUsual):
    """A careful household: battery as in business as usual, cars spread evenly to the SOC they need.

    Each hour a car charges with the power that, held to the departure, brings it exactly to the required
    SOC, losses included. Nothing flows below the charger's least power, so that is the least it asks for.
    While the departure is not disclosed, it goes on as if ``hidden_hours`` were left: it nears the required
    SOC, which is shown all along.
    """

    def __init__(self, hidden_hours: float = 6.0) -> None:
        """``hidden_hours``: hours, at least one.

        Raises
        ------
        ValueError
            For less than one hour.
        """
        if not hidden_hours >= 1.0:
            raise ValueError(f"hidden_hours must be at least 1, not {hidden_hours}")
        self.hidden_hours = hidden_hours

    def _cars(self, cars: Plugged) -> Tensor:
        c = self.community
        # The countdown reads 0 on the last row, which still has an action.
        hours = torch.where(cars.hours >= 0, (cars.hours + 1.0) * c.hours, self.hidden_hours)
        missing = (cars.required - cars.soc).clamp_min(0.0) * cars.capacity / hours  # kW into the battery
        power = missing / c.charger_efficiency
        nominal = c.storage_power[c.homes + c.charger_car]
        for _ in range(4):  # the battery's loss depends on the power: a few rounds settle it
            stored = (power * c.charger_efficiency / nominal).clamp(0.0, 1.0)
            everything = stored.new_zeros(len(stored), c.homes + c.cars)
            everything[:, c.homes + c.charger_car] = stored
            leg = c.efficiency_curve(everything)[:, c.homes + c.charger_car].clamp(0.0, 1.0).sqrt()
            power = missing / (c.charger_efficiency * leg)
        power = torch.minimum(torch.maximum(power, c.charger_charge_min), c.charger_charge_max)
        return torch.where(cars.connected & (missing > 1e-6), power / c.charger_charge_max, 0.0)


class Random:
    """Uniform actions within the bounds, the same for the same seed: what no knowledge at all comes to."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def reset(self, community: Community) -> None:
        """Begin the same sequence again."""
        self.community = community
        self.generator = torch.Generator().manual_seed(self.seed)

    def act(self, observations: Tensor) -> Tensor:
        """Observations (B, H, O), of which only B is read, to actions (B, H, S)."""
        c = self.community
        draws = torch.rand(len(observations), c.homes, c.slots, generator=self.generator, dtype=torch.float64)
        draws = draws.to(dtype=c.dtype, device=c.device)
        return torch.where(c.action_mask, c.action_low + draws * (c.action_high - c.action_low), 0.0)
