"""What a careful household does by itself, as differentiable layers: the actors start from it and depart from it.

It charges each car evenly up to its departure, starts an appliance as soon as it may, and lets the battery cover
what the home takes from the grid or gives to it: the rule of ``controllers/rules.py`` without its thresholds. An
actor says, hour by hour, which multiple of that it wants and what to add (residual policy learning, Silver et al.
2018), so ratios such as SOC per hour left, or a battery that cancels its home's load, need not be learned. Only the
home's own observation is read.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from thesis_lib.community.model import Community
from thesis_lib.maddpg.guard import Guard, guard_of

HIDDEN_HOURS = 8.0  # a car that hides its departure is charged as if it left in so many hours
LARGEST_COVER = 1.5  # of the battery's power: what a battery is asked to cover at most


class Household(nn.Module):
    """The home's own devices: what is seen of them, and what a careful household would do with them.

    ============  ============  ================================================================
    observations  (B, H, O)     CityLearn's lists, padded with 0
    ``see``       (B, H, S * K) of the device in each slot, K = `SEEN`; 0 where there is none
                  (B, H, S)     its habit: what a charger or an appliance would do; 0 for the battery
                  (B, H, S)     the guard's least action
    ``planned``   (B, H)        kWh that the home is about to take, before its battery
    ``cover``     (B, H)        action of the battery that would bring the home's net to 0
    ``owed``      (B, H, 4)     what the home owes and holds, `OWED`
    ============  ============  ================================================================
    """

    SEEN = ("habit", "due", "missing", "soc", "hours_left", "undisclosed", "incoming", "least")
    # kWh its cars lack, kW that would bring it evenly, kWh in its battery, kWh of appliances that may start
    OWED = ("missing", "pace", "stored", "waiting")
    USUAL = (1.8, 0.6, 3.2, 1.2)  # what of these is much in a home, on average: they come out near 1

    battery: Tensor  # (H, S) 1 in the battery's slot
    devices: Tensor  # (H, S) bool, slots of chargers and appliances
    power: Tensor  # (H,) kWh a step
    own_columns: Tensor  # (H, 2) load, PV
    charge_max: Tensor  # (C,) kWh a step, as the next three
    charge_min: Tensor
    discharge_max: Tensor
    discharge_min: Tensor
    efficiency: Tensor  # (C,)
    capacity: Tensor  # (C,) kWh
    floor: Tensor  # (C,) SOC
    charger_at_home: Tensor  # (C, H) 1 where it stands
    incoming_columns: Tensor  # (C, 2) announced, hours to arrival
    battery_capacity: Tensor  # (H,) kWh
    soc_columns: Tensor  # (H,) of the battery
    appliance_columns: Tensor  # (A, 5)
    appliance_at_home: Tensor  # (A, H)

    def __init__(self, community: Community, guard: Guard):
        """``guard``: of the same community; its tables say which action brings how much charge.

        Raises:
            ValueError: a home does not observe what is needed.
        """
        super().__init__()
        c, self.guard = community, guard

        def column(home: int, name: str) -> int:
            if name not in c.observation_names[home]:
                raise ValueError(f"{c.home_names[home]} does not observe {name}: the household's habits need it")
            return c.observation_names[home].index(name)

        def buffer(name: str, values: Tensor) -> None:
            self.register_buffer(name, values.detach().cpu().clone(), persistent=False)

        slot = c.battery_slot.cpu() % c.slots  # the model numbers slots over all homes
        has = (c.battery_energy.cpu() > 0).float().unsqueeze(1)
        buffer("battery", torch.nn.functional.one_hot(slot, c.slots).float() * has)
        buffer("power", c.storage_power[: c.homes].float() * c.hours)
        own = ("non_shiftable_load", "solar_generation")
        buffer("own_columns", torch.tensor([[column(home, name) for name in own] for home in range(c.homes)]))
        self.load_to_observed = c.load_to_observed
        buffer("battery_capacity", c.storage_capacity[: c.homes].float() * has.squeeze(1))
        buffer("soc_columns", torch.tensor([column(home, "electrical_storage_soc") for home in range(c.homes)]))

        # Chargers and appliances with an action, as the guard counts them.
        active = [k for k in range(c.chargers) if int(c.charger_slot[k]) >= 0]
        for name in ("charge_max", "charge_min", "discharge_max", "discharge_min"):
            buffer(name, getattr(c, f"charger_{name}")[active].float() * c.hours)
        buffer("efficiency", c.charger_efficiency[active].float())
        cars = c.homes + c.charger_car[active]
        buffer("capacity", c.storage_capacity[cars].float())
        buffer("floor", c.storage_minimum_soc[cars].float())
        buffer("charger_at_home", torch.nn.functional.one_hot(c.charger_home[active], c.homes).float())
        templates = (
            "electric_vehicle_charger_{}_incoming_state",
            "incoming_electric_vehicle_at_charger_{}_estimated_arrival_time",
        )
        found = [[column(int(c.charger_home[k]), t.format(c.charger_names[k])) for t in templates] for k in active]
        buffer("incoming_columns", torch.tensor(found, dtype=torch.long).view(-1, len(templates)))
        active = [k for k in range(c.appliances) if int(c.appliance_slot[k]) >= 0]
        fields = ("can_start", "current_step_energy_kwh", "cycle_energy_kwh", "cycle_duration_steps", "slack_steps")
        named = [(int(c.appliance_home[k]), f"deferrable_appliance_{c.appliance_names[k]}_") for k in active]
        found = [[column(home, name + field) for field in fields] for home, name in named]
        buffer("appliance_columns", torch.tensor(found, dtype=torch.long).view(-1, len(fields)))
        buffer("appliance_at_home", torch.nn.functional.one_hot(c.appliance_home[active], c.homes).float())
        buffer("devices", (guard.place.sum(0) > 0).view(c.homes, c.slots))

    def see(self, observations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What follows from the observation of each device (B, H, S * K), its habit and the guard's least action, both
        (B, H, S); see the class. Placing by a product with 0 and 1 is faster than by index, forward and backward."""
        batch, (homes, slots) = len(observations), self.battery.shape
        _, gain = margins = self.guard.margins(observations)
        least = self.guard.least_actions(observations, margins)
        plugged, departure, _, soc = self.guard.chargers(observations)
        columns = self.incoming_columns.expand(batch, -1, -1)
        coming = observations.detach()[:, self.guard.charger_home].gather(2, columns)
        missing = plugged * self._missing(observations)
        zero = torch.zeros_like(soc)
        chargers = [
            self._even(observations),
            plugged * gain * 2,
            missing * 2,
            plugged * soc,
            plugged * (departure + 1) / 12,
            plugged * (departure < 0),
            torch.where(coming[..., 0] > 0.5, 1 / (coming[..., 1].clamp_min(0) + 1), zero),
        ]
        can_start, _, energy, _, slack = self._appliances(observations)
        none = torch.zeros_like(can_start)
        appliances = [can_start, none, can_start * energy, none, can_start * slack / 12, none, none]
        seen = [torch.cat(pair, 1) for pair in zip(chargers, appliances, strict=True)]
        placed = torch.stack([*seen, least], 1) @ self.guard.place  # (B, K, H * S)
        return (
            placed.view(batch, len(self.SEEN), homes, slots).permute(0, 2, 3, 1).flatten(2),
            (seen[0] @ self.guard.place).view(batch, homes, slots),
            self.guard.lower(observations, least),
        )

    def planned(self, observations: Tensor, actions: Tensor) -> Tensor:
        """What each home is about to take, (B, H) in kWh, before its battery and given the ``actions`` (B, H, S)."""
        batch = len(observations)
        load, pv = observations.detach().gather(2, self.own_columns.expand(batch, -1, -1)).unbind(2)
        connected, _, _, soc = self.guard.chargers(observations)
        chosen = actions.flatten(1) @ self.guard.place.T  # (B, C + A)
        action, switch = chosen[:, : len(self.capacity)], chosen[:, len(self.capacity) :]
        up, down = action.clamp(min=0) * self.charge_max, (-action).clamp(min=0) * self.discharge_max
        up = torch.minimum(up, (1 - soc).clamp(min=0) * self.capacity / self.efficiency) * (up >= self.charge_min)
        down = torch.minimum(down, (soc - self.floor).clamp(min=0) * self.capacity * self.efficiency)
        down = down * (down >= self.discharge_min)
        cars = (connected * (up - down)) @ self.charger_at_home
        can_start, running, energy, duration, _ = self._appliances(observations)
        started = can_start * (switch > 0) * energy / duration.clamp_min(1)
        return load / self.load_to_observed - pv + cars + (running + started) @ self.appliance_at_home

    def cover(self, planned: Tensor) -> Tensor:
        """The battery's action that would bring the home's net to 0, given what is ``planned`` (B, H)."""
        return (-planned / self.power).clamp(-LARGEST_COVER, LARGEST_COVER)

    def owed(self, observations: Tensor) -> Tensor:
        """What each home owes its cars and appliances and holds in its battery, (B, H, 4); see `OWED`."""
        connected, departure, _, _ = self.guard.chargers(observations)
        missing = connected * self._missing(observations).clamp(min=0) * self.capacity
        hours = torch.where(departure < 0, HIDDEN_HOURS, (departure + 1).clamp_min(1))
        places = torch.arange(len(self.soc_columns), device=observations.device) * observations.shape[2]
        stored = observations.flatten(1).index_select(1, places + self.soc_columns) * self.battery_capacity
        can_start, _, energy, _, _ = self._appliances(observations)
        cars = (torch.stack([missing, missing / hours], 1) @ self.charger_at_home).unbind(1)
        return torch.stack([*cars, stored, (can_start * energy) @ self.appliance_at_home], 2)

    def _appliances(self, observations: Tensor) -> tuple[Tensor, ...]:
        columns = self.appliance_columns.expand(len(observations), -1, -1)
        return observations.detach()[:, self.guard.appliance_home].gather(2, columns).unbind(2)

    def _missing(self, observations: Tensor) -> Tensor:
        _, _, required, soc = self.guard.chargers(observations)
        soc = torch.maximum(soc * self.guard.kept, self.guard.floor)
        return (required - self.guard.tolerance).clamp(0, 1) - soc

    def _even(self, observations: Tensor) -> Tensor:
        """Charging actions (B, C) that, held to the departure, just bring what is missing."""
        connected, departure, _, _ = self.guard.chargers(observations)
        missing = self._missing(observations)
        hours = torch.where(departure < 0, HIDDEN_HOURS, (departure + 1 - self.guard.spare_steps).clamp_min(1))
        action = self.guard.action_for(missing.clamp(min=0) / hours)
        return torch.where((connected > 0.5) & (missing > 1e-6), action, torch.zeros_like(action))


def household_of(
    community: Community, undisclosed_pace: float, spare_steps: int = 0, tolerance: float = 0.0
) -> Household:
    """The habits of a community's homes, on the CPU wherever it is; the arguments are the guard's, see `guard_of`."""
    community = community.to("cpu")
    return Household(community, guard_of(community, undisclosed_pace, spare_steps, tolerance))
