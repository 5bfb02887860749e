"""What each home sees: CityLearn's own observation lists, built from the model's state, for all copies at once.

A home's list keeps CityLearn's order; lists are ragged (28 to 52 values in the official community) and padded with
zeros to (B, H, O). Own states lag one row (CityLearn's ``endogenous_t``); load, PV, price and carbon are current.
Source: ``BuildingOpsService.observations`` and ``DeferrableAppliance.observations``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from thesis_lib.community.model import FLOATS, Community, Rows, State
from thesis_lib.community.reading import APPLIANCE_FIELDS, CHARGER_FIELDS, UnsupportedSchema

UNITS = {  # by the name's ending; what is not here is a number without unit
    "temperature": "°C",
    "humidity": "%",
    "irradiance": "W/m²",
    "carbon_intensity": "kg/kWh",
    "pricing": "EUR/kWh",
    "non_shiftable_load": "kWh",
    "solar_generation": "kWh",
    "net_electricity_consumption": "kWh",
    "battery_capacity": "kWh",
    "_kwh": "kWh",
    "_time": "steps",
    "_time_step": "step",
    "_steps": "steps",
    "hours_until_latest_start": "h",
    "hours_until_deadline": "h",
    "month": "month",
    "hour": "h",
}


def unit(name: str) -> str:
    """Unit of the observation ``name``; "1" for fractions, flags and ratios."""
    base = name.split("_predicted_")[0]
    return next((u for ending, u in UNITS.items() if base.endswith(ending)), "1")


def column(community: Community, home: int, name: str) -> int:
    """Position of the observation ``name`` in ``home``'s list.

    Raises
    ------
    KeyError
        If the home does not observe it.
    """
    try:
        return community.observation_names[home].index(name)
    except ValueError:
        raise KeyError(f"{community.home_names[home]} does not observe {name}") from None


class Observer:
    """Builds observations of one community; holds where each observed value comes from."""

    def __init__(self, community: Community) -> None:
        """Work out, once, the source of every observed value.

        Raises
        ------
        UnsupportedSchema
            If a home observes something the model does not know.
        """
        self.community = community
        c = community
        self.width = max(len(names) for names in c.observation_names)
        first: dict[str, int] = {}
        position = 0
        for name, size in (
            *((k, c.widths[FLOATS.index(k)]) for k in FLOATS[:5]),
            ("soc", c.homes),
            ("net", c.homes),
            *((field, c.chargers) for field in CHARGER_FIELDS.values()),
            *((field, c.appliances) for field in APPLIANCE_FIELDS),
            ("zero", 1),
        ):
            first[name] = position
            position += size
        index = torch.full((c.homes, self.width), first["zero"])
        charger = {p.format(c.charger_names[k]): (f, k) for k in range(c.chargers) for p, f in CHARGER_FIELDS.items()}
        appliance = {
            f"deferrable_appliance_{c.appliance_names[k]}_{f}": (f, k)
            for k in range(c.appliances)
            for f in APPLIANCE_FIELDS
        }
        for h, names in enumerate(c.observation_names):
            own = {
                "non_shiftable_load": ("load", h),
                "solar_generation": ("pv", h),
                "electrical_storage_soc": ("soc", h),
                "net_electricity_consumption": ("net", h),
            }
            for o, name in enumerate(names):
                source = own.get(name) or c.exogenous.get((h, name)) or charger.get(name) or appliance.get(name)
                if source is None:
                    raise UnsupportedSchema(
                        f"{c.home_names[h]}: the observation {name} is not modelled; deactivate it in the schema"
                    )
                index[h, o] = first[source[0]] + source[1]
        self.index = index.flatten().to(c.device)
        # Own states are the only ones through which a gradient can pass; everything else is copied without one,
        # or its backward pass would fill and scatter the whole table to no end.
        live = (("soc", c.homes), ("net", c.homes), ("car_soc", c.chargers))
        rows = torch.cat([torch.arange(first[field], first[field] + size) for field, size in live])
        place = (index.flatten().unsqueeze(0) == rows.unsqueeze(1)).nonzero()
        self.live_source, self.live_place = place[:, 0].to(c.device), place[:, 1].to(c.device)
        self.mask = (index != first["zero"]).to(c.device)  # (H, O) which places hold an observation

    def __call__(self, state: State, rows: Rows | None = None) -> Tensor:
        """Observations at the beginning of the row, (B, H, O), in CityLearn's order and units, padded with 0."""
        c = self.community
        rows = c.read(state.row) if rows is None else rows
        plugged = rows.connected > 0
        car_soc = torch.nn.functional.pad(state.soc_before[:, c.homes :], (0, 1)).gather(1, rows.car)
        capacity = torch.nn.functional.pad(c.storage_capacity[c.homes :], (0, 1))[rows.car]
        car_soc = torch.where(plugged, car_soc, -0.1)
        sources = [
            rows.load * c.load_to_observed,
            rows.pv,
            rows.calendar,
            rows.weather,
            rows.market,
            state.soc_before[:, : c.homes],
            state.net,
            rows.connected,
            rows.departure,
            rows.required_soc,
            car_soc,
            torch.where(plugged, capacity, -1.0),
            rows.incoming,
            rows.arrival,
            rows.arrival_soc,
            *self._appliances(state, rows),
            torch.zeros_like(rows.load[:, :1]),
        ]
        seen = torch.cat([source.detach() for source in sources], -1).index_select(1, self.index)
        if torch.is_grad_enabled():
            live = torch.cat([state.soc_before[:, : c.homes], state.net, car_soc], -1)
            seen = seen.index_copy(1, self.live_place, live.index_select(1, self.live_source))
        return seen.view(-1, c.homes, self.width)

    def _appliances(self, state: State, rows: Rows) -> Sequence[Tensor]:
        """``APPLIANCE_FIELDS`` of the cycle on show (running, else next, else first missed), each (B, A)."""
        c = self.community
        which, now = c.appliance_index, rows.clock
        next_cycle, missed_cycle = c.pass_missed(state, rows)
        last = state.last_cycle
        elapsed = now - state.started_at
        running = elapsed < c.cycle_duration[which, last]
        pending = ~running & (next_cycle < c.cycle_latest.shape[-1] - 1) & (c.cycle_duration[which, next_cycle] > 0)
        missed = ~running & ~pending & (missed_cycle >= 0)
        none = ~(running | pending | missed)
        shown = torch.where(running, last, torch.where(pending, next_cycle, missed_cycle.clamp_min(0)))
        earliest, latest = c.cycle_earliest[which, shown], c.cycle_latest[which, shown]
        deadline, duration = c.cycle_deadline[which, shown], c.cycle_duration[which, shown]
        left = (state.end - state.row).unsqueeze(-1)
        can_start = pending & (earliest <= now) & (now <= c.cycle_window[which, shown, 1]) & (duration < left)
        slack = torch.where(pending, (latest - now).clamp_min(0), 0).to(c.dtype)
        ratio = (slack / (latest - earliest).clamp_min(1)).clamp(0.0, 1.0)
        longest = c.cycle_profile.shape[-1] - 1
        profile = c.cycle_profile[which, shown]
        current = profile.gather(-1, elapsed.clamp(0, longest).unsqueeze(-1)).squeeze(-1) * running
        ahead = (profile * (torch.arange(longest + 1, device=c.device) >= elapsed.unsqueeze(-1))).sum(-1) * running
        energy = c.cycle_energy[which, shown]
        until_deadline = torch.where(pending | running, (deadline - now).clamp_min(0), 0) * c.hours
        values = {
            "pending": pending,
            "running": running,
            "can_start": can_start,
            "deadline_missed": missed,
            "earliest_start_time_step": torch.where(none, -1, earliest + c.first_row),
            "latest_start_time_step": torch.where(none, -1, latest + c.first_row),
            "deadline_time_step": torch.where(none, -1, deadline + c.first_row),
            "hours_until_latest_start": torch.where(none, -1.0, slack * c.hours),
            "hours_until_deadline": torch.where(none, -1.0, until_deadline.to(c.dtype)),
            "slack_steps": torch.where(none, -1.0, slack),
            "slack_ratio": torch.where(none, -1.0, ratio * pending),
            "urgency_ratio": torch.where(none, -1.0, (1.0 - ratio) * pending),
            "cycle_duration_steps": torch.where(none, 0, duration),
            "cycle_energy_kwh": torch.where(none, 0.0, energy),
            "remaining_energy_kwh": torch.where(pending, energy, ahead),
            "current_step_energy_kwh": current,
            "priority": torch.where(none, 0.0, c.cycle_priority[which, shown]),
        }
        return [values[name].to(c.dtype) for name in APPLIANCE_FIELDS]


def from_lists(community: Community, lists: Sequence[Sequence[float]]) -> Tensor:
    """CityLearn's ragged observations -> (1, H, O), padded with 0, in the model's type and on its device."""
    width = max(len(names) for names in community.observation_names)
    padded = [list(values) + [0.0] * (width - len(values)) for values in lists]
    return torch.tensor([padded], dtype=community.dtype, device=community.device)


def to_lists(community: Community, actions: Tensor) -> list[list[float]]:
    """Actions (1, H, S) -> CityLearn's ragged lists."""
    return [row[: len(names)] for row, names in zip(actions[0].tolist(), community.action_names, strict=True)]
