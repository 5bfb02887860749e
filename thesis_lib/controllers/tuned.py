"""The rule worth beating: what a careful household could do with a few numbers, well chosen.

The numbers stand in ``configs/controllers/tuned_rule.yaml``, with where they come from; `tuning` writes that file.

Shapes: B copies, H homes, C chargers, A appliances, O observations.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import yaml
from torch import Tensor

from thesis_lib import paths
from thesis_lib.community.model import Community
from thesis_lib.community.observations import column
from thesis_lib.config import ConfigError
from thesis_lib.controllers.metered import AHEAD, Metered
from thesis_lib.controllers.rules import Plugged, SpreadCharging

SETTINGS = {
    "tolerance": "SOC below the required one that is left to the driver; as the learner's guard",
    "hidden_hours": "a car that hides its departure is charged as if it left in so many hours",
    "pace": "cars: times the even power; above 1 they charge early, below 1 late",
    "car_price": "cars: share of power gained for each share by which the hour is cheaper than those ahead",
    "car_sun": "cars: share of the home's PV surplus that they take at once",
    "store_below": "battery: stores what lacks to this net consumption (kW)",
    "use_above": "battery: covers what exceeds this net consumption (kW)",
    "hold": "battery: share of the last hour's net consumption that is added to both",
    "store": "battery: share of what lacks that it stores",
    "use": "battery: share of what exceeds that it covers",
    "store_hours": "battery: fills up in no fewer hours",
    "use_hours": "battery: empties in no fewer hours",
    "least_soc": "battery: emptied no further",
    "most_soc": "battery: filled no further",
    "price": "battery: share it covers more for each share by which the hour is dearer than those ahead",
    "carbon": "battery: share it covers more for each share by which the hour is dirtier than usual",
    "usual_carbon": "mean carbon intensity of the train rows (kg/kWh)",
    "appliance_price": "appliances start in an hour no dearer than this share of those ahead, or at the latest one",
}


FULL_POWER_LEG = 0.88  # least share that a car's battery keeps of what full power brings


def settings_file() -> Path:
    """Where the tuned numbers stand: ``configs/controllers/tuned_rule.yaml``."""
    return paths.configs() / "controllers" / "tuned_rule.yaml"


def read_settings(file: Path | None = None) -> dict[str, float]:
    """The tuned numbers.

    Args:
        file: as `settings_file`; None for that one.

    Returns:
        Name -> number, for each of `SETTINGS`.

    Raises:
        ConfigError: no such file, or other keys or values than numbers in it; one line.
    """
    file = file or settings_file()
    advice = "run python -m thesis_lib.controllers.tuning"
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file.name} is missing: {advice}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{file.name} is no valid YAML: {advice}") from None
    values = content.get("settings") if isinstance(content, dict) else None
    if not isinstance(values, dict) or set(values) != set(SETTINGS):
        raise ConfigError(f"{file.name} must hold under settings {', '.join(SETTINGS)}, and no more: {advice}")
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values.values()):
        raise ConfigError(f"{file.name}: every one of settings must be a number: {advice}")
    return {name: float(values[name]) for name in SETTINGS}


class TunedRule(Metered, SpreadCharging):
    """Cars spread to what is asked for, sooner in cheap or sunny hours; the battery rations what it stores.

    It sees its own home's observations only, CityLearn's price forecasts among them. No car discharges.
    """

    def __init__(self, settings: Mapping[str, float | Tensor] | None = None) -> None:
        """``settings``: of `SETTINGS`, numbers or (B, 1) to roll B of them side by side; None: the tuned ones.

        Raises
        ------
        ConfigError
            As `read_settings`, or for other names.
        """
        values = read_settings() if settings is None else settings
        if set(values) != set(SETTINGS):
            raise ConfigError(f"the tuned rule's settings are {', '.join(SETTINGS)}, not {', '.join(sorted(values))}")
        self.set = values
        self.hidden_hours = values["hidden_hours"]  # type: ignore[assignment]

    def reset(self, community: Community) -> None:
        """As `Metered.reset`; the homes' last net consumption and the appliances' slack are read too."""
        super().reset(community)
        c = community
        self._own["net"] = torch.tensor([column(c, h, "net_electricity_consumption") for h in range(c.homes)])
        self._own["net"] = self._own["net"].to(c.device)
        pairs = list(zip(c.appliance_home.tolist(), c.appliance_names, strict=True))
        for field in ("hours_until_latest_start", "hours_until_deadline", "cycle_duration_steps"):
            found = [column(c, home, f"deferrable_appliance_{name}_{field}") for home, name in pairs]
            self._appliance[field] = torch.tensor(found, dtype=torch.long, device=c.device)

    def act(self, observations: Tensor) -> Tensor:
        """Observations (B, H, O) to actions (B, H, S)."""
        now = self._read(observations, "electricity_pricing")
        ahead = [self._read(observations, f"electricity_pricing{hours}") for hours in AHEAD]
        self._dearness = now / (torch.stack([now, *ahead]).mean(0)).clamp_min(1e-6)  # 1: as dear as those ahead
        idle = self._power(observations)
        self._surplus = (idle.pv - idle.load).clamp_min(0.0)
        return super().act(observations)

    def _cars(self, cars: Plugged) -> Tensor:
        c, s = self.community, self.set
        cars = cars._replace(required=cars.required - s["tolerance"])
        missing = (cars.required - cars.soc) * cars.capacity  # kWh
        late = cars.hours < 0
        hours = torch.where(late, -1.0, ((cars.hours + 1.0) / s["pace"] - 1.0).clamp_min(0.0))
        even = super()._cars(cars._replace(hours=hours))
        # what full power in the hours after this one would not bring has to come now
        kept = c.charger_efficiency * FULL_POWER_LEG * c.hours  # kWh of a kW
        brought = c.charger_charge_max * kept
        rest = torch.where(late, 0.0, missing - brought * cars.hours.clamp_min(0.0))
        must, at_once = (torch.where(cars.connected, (kwh / brought).clamp(0.0, 1.0), 0.0) for kwh in (rest, missing))

        least = c.charger_charge_min / c.charger_charge_max
        cheap = 1.0 + s["car_price"] * (1.0 - self._dearness[:, c.charger_home])
        wish = torch.maximum(even * cheap, s["car_sun"] * self._surplus[:, c.charger_home] / c.charger_charge_max)
        wish = torch.where(wish < 0.5 * least, 0.0, torch.maximum(wish, least))  # less than the least is nothing
        # beyond what is missing nothing is charged, save that a charger has a least power
        wish = torch.where(at_once > 0.0, torch.minimum(wish, torch.maximum(at_once, least)), 0.0)
        return torch.maximum(wish, torch.where(must > 0.0, torch.maximum(must, least), 0.0))

    def _batteries(self, observations: Tensor, cars: Tensor, starts: Tensor) -> Tensor:
        c, s = self.community, self.set
        power = self._power(observations, cars, starts)
        capacity, full = c.storage_capacity[: c.homes], c.storage_power[: c.homes]
        level = s["hold"] * self._read(observations, "net") / c.hours
        dirt = self._read(observations, "carbon_intensity") / s["usual_carbon"]
        more = (1.0 + s["price"] * (self._dearness - 1.0) + s["carbon"] * (dirt - 1.0)).clamp_min(0.0)
        room = ((s["most_soc"] - power.soc).clamp_min(0.0) * capacity) / s["store_hours"]
        left = ((power.soc - s["least_soc"]).clamp_min(0.0) * capacity) / s["use_hours"]
        store = ((s["store_below"] + level - power.net).clamp_min(0.0) * s["store"]).minimum(room)
        use = ((power.net - s["use_above"] - level).clamp_min(0.0) * s["use"] * more).minimum(left)
        return ((store - use) / full.clamp_min(1e-6)).clamp(-1.0, 1.0)

    def _appliances(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        c = self.community
        can, first = super()._appliances(observations)
        latest, deadline, steps = (
            observations[:, c.appliance_home, self._appliance[field]]
            for field in ("hours_until_latest_start", "hours_until_deadline", "cycle_duration_steps")
        )
        last = torch.minimum(latest, deadline - (steps - 1.0) * c.hours) < 0.5 * c.hours
        start = can * ((self._dearness[:, c.appliance_home] <= self.set["appliance_price"]) | last)
        return start, first * start
