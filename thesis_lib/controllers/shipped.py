"""CityLearn's own rule-based controllers that can run this community, action for action, in both engines.

CityLearn's agents read the environment's objects, one home at a time; these read the same numbers off the
observations, for all homes and copies at once, and `tests/test_shipped.py` steps them beside the agents.
What they do is theirs, not ours to better: two of their habits are no causal controller's, and each class says so.

Source: CityLearn 3.0.2 ``citylearn.agents.baseline`` and ``citylearn.agents.rbc`` with their defaults.

Shapes: B copies, H homes, C chargers, A appliances, O observations.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from thesis_lib.community.model import Community
from thesis_lib.community.observations import column
from thesis_lib.controllers.metered import Metered, Power
from thesis_lib.controllers.rules import Plugged, Rule


class RBCBasic(Metered):
    """CityLearn's ``RBCBasicPolicy``: cars and batteries charge in cheap hours, batteries discharge in dear ones.

    What is cheap or dear are quantiles of the tariff over the whole run, which the agent reads beforehand: it knows
    the year's prices, those of test weeks included.
    """

    floor, margin = 0.25, 0.05  # least charging rate of a car, and what is added to the rate it needs
    cheap_rate = 0.70  # of a car in a cheap hour
    low_quantile, high_quantile = 0.35, 0.75
    store_rate, use_rate = 0.60, 0.45  # of the battery's power

    def reset(self, community: Community) -> None:
        """Take the quantiles of each home's tariff over the whole run. Raises as `Metered.reset`."""
        super().reset(community)
        prices = community.price(community.read(torch.arange(community.rows, device=community.device)))
        table = prices.expand(-1, community.homes).double().cpu().numpy()
        quantiles = np.quantile(table, [self.low_quantile, self.high_quantile], axis=0)
        self.low, self.high = torch.tensor(quantiles, dtype=community.dtype, device=community.device)  # (H,) each

    def act(self, observations: Tensor) -> Tensor:
        """Observations (B, H, O) to actions (B, H, S)."""
        self._price = self._read(observations, "electricity_pricing")
        self._idle = self._power(observations)
        return super().act(observations)

    def _needed(self, cars: Plugged) -> tuple[Tensor, Tensor]:
        """Hours left (1 on the last row, none while not disclosed) and the rate that just does, both (B, C)."""
        hours = torch.where(cars.hours == 0, 1.0, cars.hours).clamp_min(1e-6)
        return hours, (cars.required - cars.soc) * cars.capacity / (hours * self.community.charger_charge_max)

    def _cheap(self) -> Tensor:
        return (self._price <= self.low)[:, self.community.charger_home]

    def _cars(self, cars: Plugged) -> Tensor:
        c = self.community
        _, needed = self._needed(cars)
        rate = torch.maximum((needed + self.margin).clamp_min(self.floor), c.charger_charge_min / c.charger_charge_max)
        rate = torch.where(self._cheap(), rate.clamp_min(self.cheap_rate), rate).clamp(0.0, 1.0)
        charging = cars.connected & (cars.soc < cars.required.clamp(0.0, 1.0) - self.close_enough)
        return torch.where(charging & (cars.soc < 1.0 - 1e-6), rate, 0.0)

    def _batteries(self, observations: Tensor, cars: Tensor, starts: Tensor) -> Tensor:
        return self._battery(self._power(observations, cars, starts))

    def _battery(self, power: Power) -> Tensor:
        store = (self._price <= self.low) & (power.soc < self.most_soc)
        use = (self._price >= self.high) & (power.net > self.deadband) & (power.soc > self.least_soc)
        idle = torch.zeros_like(power.net)
        return torch.where(store, idle + self.store_rate, torch.where(use, idle - self.use_rate, idle))


class RBCSmart(RBCBasic):
    """CityLearn's ``RBCSmartPolicy``: cars wait for sun, cheap hours or their last ones; batteries for dear hours.

    It knows the year's prices as `RBCBasic` does.
    """

    floor, margin = 0.0, 0.03
    urgent_hours, urgent_rate = 2.0, 0.80  # a car waits no longer
    use_rate = 0.65  # at most, of the battery's power
    peak = 7.0  # kW of a home's import at which its battery helps whatever the price

    def _cars(self, cars: Plugged) -> Tensor:
        c = self.community
        hours, needed = self._needed(cars)
        rate = (needed + self.margin).clamp_min(self.floor)
        surplus = (self._idle.pv - self._idle.load)[:, c.charger_home]
        sunny = surplus > self.deadband
        urgent = (hours <= self.urgent_hours) | (needed >= self.urgent_rate)
        other = torch.where(self._cheap(), rate.clamp_min(self.cheap_rate), torch.where(urgent, rate, 0.0))
        rate = torch.where(sunny, torch.maximum(rate, surplus / c.charger_charge_max), other).clamp(0.0, 1.0)
        return torch.where(cars.connected & (cars.soc < cars.required - self.close_enough), rate, 0.0)

    def _battery(self, power: Power) -> Tensor:
        full = self.community.storage_power[: self.community.homes]
        share = torch.minimum(power.net.abs(), full) / full
        store = (power.net < -self.deadband) & (power.soc < self.most_soc)
        use = (power.net > self.deadband) & (power.soc > self.least_soc)
        use &= (power.net >= self.peak) | (self._price >= self.high)
        return torch.where(store, share, torch.where(use, -share.clamp_max(self.use_rate), 0.0))


class RBCCommunity(RBCSmart):
    """CityLearn's ``RBCCommunityPolicy``: as `RBCSmart`, and batteries also cover what the community imports.

    Each home knows every other home's load and PV of the coming hour: a broadcast without its latency. It knows the
    year's prices as `RBCBasic` does.
    """

    community_rate = 0.75  # share of the import that a battery answers
    community_import = 1.0  # kW that the community may import before batteries help

    def _battery(self, power: Power) -> Tensor:
        full = self.community.storage_power[: self.community.homes]
        total = (self._idle.load - self._idle.pv).sum(1, keepdim=True)  # without the others' cars
        imported = (total + power.net - (self._idle.load - self._idle.pv)).clamp_min(0.0)
        store = (power.net < -self.deadband) & (power.soc < self.most_soc)
        use = ((power.net > self.deadband) | (imported > self.community_import)) & (power.soc > self.least_soc)
        answer = torch.minimum(torch.maximum(power.net, imported), full) / full * self.community_rate
        return torch.where(store, torch.minimum(-power.net, full) / full, torch.where(use, -answer, 0.0))


class RBCHours(Rule):
    """CityLearn's ``BasicElectricVehicleRBC_ReferenceController``: the clock alone decides, for every device.

    It never looks whether a car is there, how full it is or when it leaves, and it discharges cars by day.
    """

    def reset(self, community: Community) -> None:
        """Find the clock of each home.

        Raises
        ------
        KeyError
            If a home does not observe the hour.
        """
        super().reset(community)
        places = [column(community, home, "hour") for home in range(community.homes)]
        self._clock = torch.tensor(places, device=community.device)

    def act(self, observations: Tensor) -> Tensor:
        """Observations (B, H, O), of which only the hour is read, to actions (B, H, S)."""
        c = self.community
        hour = observations[:, self._homes, self._clock].round()
        zero = torch.zeros_like(hour)
        # hours are labelled 1 to 24; the file's first is labelled 0, and no map holds a 0: it stands for 24
        label = torch.where(hour == 0, zero + 24, hour)
        battery = torch.where((label >= 9) & (label <= 21), zero - 0.08, zero + 0.091)
        car = zero + 0.8
        for until, value in ((20, -0.6), (15, -1.0), (10, 1.0), (7, 0.4)):
            car = torch.where(label < until, value, car)
        cars, starts = car[:, c.charger_home], torch.ones_like(zero[:, c.appliance_home])
        return self._place(battery, cars, starts)
