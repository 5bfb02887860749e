"""What a rule reads off its home's meters: the powers it is about to face, and the tariff.

Shapes: B copies, H homes, C chargers, A appliances, O observations.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from thesis_lib.community.model import Community
from thesis_lib.community.observations import column
from thesis_lib.controllers.rules import BusinessAsUsual, Rule

AHEAD = ("_predicted_1", "_predicted_2", "_predicted_3")  # 6, 12 and 24 hours


class Power(NamedTuple):
    """Of each home in the coming hour, all (B, H)."""

    load: Tensor  # kW, uncontrolled
    pv: Tensor  # kW
    net: Tensor  # kW, with the cars and appliances that are about to run, before the battery
    soc: Tensor  # of the battery


class Metered(BusinessAsUsual):
    """Business as usual, with its readings within reach of the rules that do something else with them."""

    def reset(self, community: Community) -> None:
        """As `Rule.reset`.

        Raises
        ------
        KeyError
            If a home does not observe its tariff, its forecasts or its carbon intensity either.
        """
        super().reset(community)
        names = ("electricity_pricing", "carbon_intensity", *(f"electricity_pricing{ahead}" for ahead in AHEAD))
        found = {name: [column(community, home, name) for home in range(community.homes)] for name in names}
        self._market = {name: torch.tensor(places, device=community.device) for name, places in found.items()}

    def _read(self, observations: Tensor, name: str) -> Tensor:
        return observations[:, self._homes, (self._own | self._market)[name]]

    def _power(self, observations: Tensor, cars: Tensor | None = None, starts: Tensor | None = None) -> Power:
        """With the charging actions ``cars`` (B, C) and the appliances' ``starts`` (B, A); None for none."""
        c = self.community
        load = self._read(observations, "non_shiftable_load").clamp_min(0.0) / c.load_to_observed / c.hours
        pv = self._read(observations, "solar_generation").abs() / c.hours
        charging, running = torch.zeros_like(load), torch.zeros_like(load)
        if cars is not None:
            charging = charging.index_add(1, c.charger_home, cars * c.charger_charge_max)
        if starts is not None:
            running = running.index_add(1, c.appliance_home, self._first_hour(observations, starts) / c.hours)
        soc = self._read(observations, "electrical_storage_soc") * c.battery_keep
        return Power(load, pv, load + charging + running - pv, soc)

    def _first_hour(self, observations: Tensor, starts: Tensor) -> Tensor:
        """Energy (B, A) of the first hour of what is started, kWh."""
        _, at_once = Rule._appliances(self, observations)
        return at_once * starts
