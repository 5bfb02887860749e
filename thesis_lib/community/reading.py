"""Reads a loaded CityLearn 3 environment into plain arrays, and refuses what the community model does not model.

Everything the physics needs is read off the environment's own objects after ``reset()`` - drawn efficiency
curves, initial states of charge, time-step ratios - so that nothing is a constant of ours. What CityLearn decides
from the charger files alone (who is plugged in where, which state of charge an arrival brings, when an absent car
drifts) is worked out here once for all rows, following ``associate_chargers_to_electric_vehicles`` and
``simulate_unconnected_ev_soc`` of ``CityLearnRuntimeService``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

CHARGER_FIELDS = {  # observation name around the charger's id -> what it shows
    "electric_vehicle_charger_{}_connected_state": "connected",
    "connected_electric_vehicle_at_charger_{}_departure_time": "departure",
    "connected_electric_vehicle_at_charger_{}_required_soc_departure": "required_soc",
    "connected_electric_vehicle_at_charger_{}_soc": "car_soc",
    "connected_electric_vehicle_at_charger_{}_battery_capacity": "car_capacity",
    "electric_vehicle_charger_{}_incoming_state": "incoming",
    "incoming_electric_vehicle_at_charger_{}_estimated_arrival_time": "arrival",
    "incoming_electric_vehicle_at_charger_{}_estimated_soc_arrival": "arrival_soc",
}
APPLIANCE_FIELDS = (  # observation names after the appliance's name, in the order observations.py fills them
    "pending",
    "running",
    "can_start",
    "deadline_missed",
    "earliest_start_time_step",
    "latest_start_time_step",
    "deadline_time_step",
    "hours_until_latest_start",
    "hours_until_deadline",
    "slack_steps",
    "slack_ratio",
    "urgency_ratio",
    "cycle_duration_steps",
    "cycle_energy_kwh",
    "remaining_energy_kwh",
    "current_step_energy_kwh",
    "priority",
)


class UnsupportedSchema(ValueError):
    """The environment uses a feature that the community model does not model."""


def _nothing() -> Array:
    return np.zeros(0)


@dataclass
class Reading:
    """One community as NumPy arrays. T rows, H homes, C chargers, V cars, N = H + V storages.

    ``storage`` holds per-storage constants (N,): capacity kWh, nominal power kW, minimum and initial SOC, what
    standby keeps per step, degradation coefficient; ``power_curve`` and ``efficiency_curve`` are lists of arrays
    (2, points). ``blocks`` are exogenous float series (T, n) by name, ``indices`` integer series (T, n).
    """

    seconds: float
    homes: list[str]
    observation_names: list[list[str]]
    action_names: list[list[str]]
    action_low: list[list[float]]
    action_high: list[list[float]]
    storage: dict[str, Array] = field(default_factory=dict)
    power_curve: list[Array] = field(default_factory=list)
    efficiency_curve: list[Array] = field(default_factory=list)
    chargers: list[str] = field(default_factory=list)
    charger: dict[str, Array] = field(default_factory=dict)
    cars: list[str] = field(default_factory=list)
    appliances: list[str] = field(default_factory=list)
    appliance: dict[str, Array] = field(default_factory=dict)
    blocks: dict[str, Array] = field(default_factory=dict)
    indices: dict[str, Array] = field(default_factory=dict)
    start_soc: Array = field(default_factory=_nothing)  # (T, V) SOC a car gets when an episode starts at row t, or -1
    drift_noise: Array = field(default_factory=_nothing)  # (draws,) multipliers in the order CityLearn draws them
    drift_base: Array = field(default_factory=_nothing)  # (T,) how many of them are drawn up to and including row t
    price_column: Array = field(default_factory=_nothing)  # (H,) column of the "market" block: the home's price
    carbon_column: Array = field(default_factory=_nothing)  # (H,)
    first_row: int = 0  # of the files, where the episode's row 0 is: appliances show rows of the files
    load_to_observed: float = 1.0  # observed non-shiftable load per control-step kWh
    exogenous: dict[tuple[int, str], tuple[str, int]] = field(default_factory=dict)  # (home, name) -> (block, column)


def read_environment(env: Any) -> Reading:
    """Read ``env`` (a ``CityLearnEnv``, already reset) into arrays.

    Rows are those of the environment's current episode; row 0 is its first time step.

    Raises
    ------
    UnsupportedSchema
        One line naming the home and the feature that the model does not have.
    """
    env = env.unwrapped
    refuse_unmodelled(env)
    buildings = env.buildings
    result = Reading(
        seconds=float(env.seconds_per_time_step),
        homes=[b.name for b in buildings],
        observation_names=[list(names) for names in env.observation_names],
        action_names=[list(names) for names in env.action_names],
        action_low=[b.action_space.low.tolist() for b in buildings],
        action_high=[b.action_space.high.tolist() for b in buildings],
        load_to_observed=1.0 / float(buildings[0].time_step_ratio or 1.0),
        first_row=int(env.episode_tracker.episode_start_time_step),
    )
    _read_storages(env, result)
    _read_series(env, result)
    _read_chargers(env, result)
    _read_appliances(env, result)
    return result


def refuse_unmodelled(env: Any) -> None:
    """Raise ``UnsupportedSchema`` naming the first feature of ``env`` that the model lacks."""

    def refuse(where: str, what: str) -> None:
        raise UnsupportedSchema(f"{where}: {what} is not modelled by the community model; remove it from the schema")

    if env.central_agent:
        refuse("schema", "central_agent = true")
    for attribute, what in (
        ("community_market_enabled", "the community market"),
        ("_demand_response_service.enabled", "demand response"),
        ("_robustness_service.enabled", "sensor and actuator faults (robustness)"),
    ):
        value: Any = env
        for part in attribute.split("."):
            value = getattr(value, part, False)
        if value:
            refuse("schema", what)
    if getattr(env, "topology_mode", "static") == "dynamic" or getattr(env, "interface", "flat") != "flat":
        refuse("schema", "a dynamic topology or entity interface")
    for b in env.buildings:
        if type(b).__name__ != "Building":
            refuse(b.name, f"a {type(b).__name__} (HVAC dynamics, occupants)")
        if b.simulate_power_outage:
            refuse(b.name, "a power outage")
        if b.electrical_service_enabled or getattr(b, "_charging_constraints_enabled", False):
            refuse(b.name, "an electrical limit (electrical service or charging constraint)")
        if b.escalators:
            refuse(b.name, "an escalator")
        for demand in ("cooling", "heating", "dhw"):
            if np.any(np.nan_to_num(getattr(b.energy_simulation, f"{demand}_demand")) != 0):
                refuse(b.name, f"thermal demand ({demand}; HVAC or hot water)")
            if getattr(b, f"{demand}_storage").capacity > 1e-3:
                refuse(b.name, f"thermal storage ({demand})")
        for action in b.active_actions:
            known = ("electrical_storage", "electric_vehicle_storage_", "deferrable_appliance_")
            if not action.startswith(known):
                refuse(b.name, f"the action {action}")
        for c in b.electric_vehicle_chargers or []:
            if f"electric_vehicle_storage_{c.charger_id}" not in b.active_actions:
                refuse(c.charger_id, "a charger without an active action")
            if c.charge_efficiency_curve is not None or c.discharge_efficiency_curve is not None:
                refuse(c.charger_id, "a charger efficiency curve")
        if not isinstance(b.electrical_storage.time_step_ratio, np.floating):
            refuse(b.name, "a missing time-step ratio")


def _read_storages(env: Any, result: Reading) -> None:
    """Home batteries, then cars: constants and curves (CityLearn ``Battery``)."""
    batteries = [b.electrical_storage for b in env.buildings] + [v.battery for v in env.electric_vehicles]
    result.cars = [v.name for v in env.electric_vehicles]
    result.storage = {
        "capacity": np.array([float(s.capacity) for s in batteries]),
        "power": np.array([float(s.nominal_power) for s in batteries]),
        "minimum_soc": np.array([float(np.clip(1.0 - s.depth_of_discharge, 0.0, 1.0)) for s in batteries]),
        "initial_soc": np.array(
            [float(np.float32(max(s.initial_soc, np.clip(1.0 - s.depth_of_discharge, 0.0, 1.0)))) for s in batteries]
        ),
        "keep": np.array(
            [float(np.float32(1.0 - float(s.loss_coefficient))) for s in batteries]
        ),  # as it meets float32
        "fade": np.array([float(s.capacity_loss_coefficient) for s in batteries]),
    }
    result.power_curve = [np.asarray(s.capacity_power_curve, dtype=float) for s in batteries]
    result.efficiency_curve = [np.asarray(s.power_efficiency_curve, dtype=float) for s in batteries]


def _read_series(env: Any, result: Reading) -> None:
    """Load, PV, and every exogenous column that some home observes, each distinct series once."""
    load, pv = [], []
    for b in env.buildings:
        ratio = float(b.time_step_ratio or 1.0)
        load.append(np.asarray(b.energy_simulation.non_shiftable_load, dtype="float64") * ratio)
        generation = np.asarray(b.pv.get_generation(b.energy_simulation.solar_generation), dtype="float32")
        pv.append(generation.astype("float64") * (ratio if b.pv.generation_mode == "absolute" else 1.0))
    result.blocks["load"], result.blocks["pv"] = np.stack(load, -1), np.stack(pv, -1)

    columns: dict[str, list[Array]] = {"calendar": [], "weather": [], "market": []}
    seen: dict[tuple[str, bytes], int] = {}

    def column(block: str, series: Array) -> int:
        values = np.asarray(series, dtype="float64")
        key = (block, values.tobytes())
        if key not in seen:
            seen[key] = len(columns[block])
            columns[block].append(values)
        return seen[key]

    price, carbon = [], []
    dynamic = {
        "non_shiftable_load",
        "solar_generation",
        "electrical_storage_soc",
        "net_electricity_consumption",
    }
    for h, b in enumerate(env.buildings):
        price.append(column("market", b.pricing.electricity_pricing))
        carbon.append(column("market", b.carbon_intensity.carbon_intensity))
        sources = (
            ("calendar", b.energy_simulation),
            ("weather", b.weather),
            ("market", b.pricing),
            ("market", b.carbon_intensity),
        )
        for name in result.observation_names[h]:
            if name in dynamic or "charger_" in name or name.startswith("deferrable_appliance_"):
                continue
            for block, source in sources:
                if isinstance(series := getattr(source, name, None), np.ndarray):
                    result.exogenous[h, name] = (block, column(block, series))
                    break
            else:
                raise UnsupportedSchema(
                    f"{b.name}: the observation {name} is not modelled; deactivate it in the schema"
                )
    rows = result.blocks["load"].shape[0]
    result.blocks |= {k: np.stack(v, -1) if v else np.zeros((rows, 0)) for k, v in columns.items()}
    result.price_column, result.carbon_column = np.array(price), np.array(carbon)


def _read_chargers(env: Any, result: Reading) -> None:
    """Chargers, who is plugged in when, and the states of charge that the files give."""
    found = [(h, c) for h, b in enumerate(env.buildings) for c in b.electric_vehicle_chargers or []]
    result.chargers = [c.charger_id for _, c in found]
    result.charger = {
        "home": np.array([h for h, _ in found], dtype=int),
        "slot": np.array(
            [_slot(result.action_names[h], f"electric_vehicle_storage_{c.charger_id}") for h, c in found],
            dtype=int,
        ),
        "charge_max": np.array([max(float(c.max_charging_power), 0.0) for _, c in found]),
        "charge_min": np.array([float(c.min_charging_power) for _, c in found]),
        "discharge_max": np.array([max(float(c.max_discharging_power), 0.0) for _, c in found]),
        "discharge_min": np.array([float(c.min_discharging_power) for _, c in found]),
        "efficiency": np.array([float(c.efficiency) for _, c in found]),
    }
    rows, chargers, cars = result.blocks["load"].shape[0], len(found), len(result.cars)
    number = {name: v for v, name in enumerate(result.cars)}
    sims = [c.charger_simulation for _, c in found]
    state = _columns([s.electric_vehicle_charger_state for s in sims], rows)
    raw_id = [[str(i) if isinstance(i, str) else "" for i in s.electric_vehicle_id] for s in sims]
    named = (
        np.array([[i.strip() not in ("", "nan") for i in ids] for ids in raw_id], dtype=bool).reshape(chargers, rows).T
    )
    car = np.array([[number.get(i, cars) for i in ids] for ids in raw_id], dtype=int).reshape(chargers, rows).T
    plugged = (state == 1) & named & (car < cars)

    estimated = _columns([s.electric_vehicle_estimated_soc_arrival for s in sims], rows)
    departure = _columns([s.electric_vehicle_departure_time for s in sims], rows)
    required = _columns([s.electric_vehicle_required_soc_departure for s in sims], rows)
    arrival = _columns([s.electric_vehicle_estimated_arrival_time for s in sims], rows)
    current = _columns([getattr(s, "electric_vehicle_current_soc", np.full(rows, -0.1)) for s in sims], rows)
    sessions = [list(getattr(s, "electric_vehicle_session_id", [""] * rows)) for s in sims]
    incoming = (state == 2) & named & (car < cars)
    result.blocks |= {
        "connected": plugged.astype(float),
        "departure": np.where(plugged, departure, -1.0),
        "required_soc": np.where(plugged, required, -0.1),
        "incoming": incoming.astype(float),
        "arrival": np.where(incoming, arrival, -1.0),
        "arrival_soc": np.where(incoming, estimated, -0.1),
    }

    # which charger each car is at (chargers = nowhere), and which car each charger holds (cars = none)
    at = np.full((rows, cars), chargers, dtype=int)
    for c in range(chargers):
        r = np.flatnonzero(plugged[:, c])
        if np.any(at[r, car[r, c]] != chargers):
            raise UnsupportedSchema(f"{result.chargers[c]}: a car plugged in at two chargers at once is not modelled")
        at[r, car[r, c]] = c
    result.indices = {"charger": at, "car": np.where(plugged, car, cars)}

    # What the files write into a car's SOC on entering each row: a forced value, or a drift of an absent car.
    forced = np.full((rows, cars + 1), -1.0)
    drifts = np.ones((rows, cars + 1), dtype=bool)
    drifts[[0, -1]] = False
    claimed = np.zeros((rows, cars + 1), dtype=bool)
    valid = lambda soc: np.isfinite(soc) & (soc >= 0) & (soc <= 1)  # noqa: E731
    t = np.arange(1, rows - 1)
    for c in range(chargers):  # the event at row t looks ahead to t + 1; the first charger to claim a car wins
        ahead, state_here, state_ahead = car[t + 1, c], state[t, c], state[t + 1, c]
        parked = t[state_here == 1]
        claimed[parked, car[parked, c]] = True
        joins = named[t + 1, c] & (state_ahead == 1) & (state_here != 1)
        same = np.array([raw_id[c][i] == raw_id[c][i + 1] for i in t]) & (state_here == 2)
        soc = np.where(same, estimated[t, c], estimated[t + 1, c])
        new = joins & ~claimed[t, ahead]
        write = new & valid(soc)
        forced[t[write], ahead[write]] = soc[write]
        claimed[t[new], ahead[new]] = True
    drifts &= ~claimed

    start_soc = np.full((rows, cars + 1), -1.0)
    for c in range(chargers):  # a new connection takes the arrival SOC of the row before, or of its own row
        begin = np.where(valid(current[:, c]), current[:, c], np.where(valid(estimated[:, c]), estimated[:, c], -1.0))
        r = np.flatnonzero(plugged[:, c])
        start_soc[r, car[r, c]] = begin[r]
        for i in r[r > 0]:
            identity, before = (str(sessions[c][k] or "").strip() for k in (i, i - 1))
            known = identity not in ("", "nan")
            changed = known and before not in ("", "nan") and identity != before
            if not known:
                changed = departure[i - 1, c] <= 1 and departure[i, c] > departure[i - 1, c]
            if plugged[i - 1, c] and car[i - 1, c] == car[i, c] and not changed:
                continue
            value = current[i, c]
            if not valid(value):
                value = estimated[i - 1, c] if state[i - 1, c] in (2, 3) else estimated[i, c]
            if valid(value):
                forced[i, car[i, c]] = value
    result.start_soc = start_soc[:, :cars]

    minimum, keep = (result.storage[k][len(result.homes) :] for k in ("minimum_soc", "keep"))
    drifts, forced = drifts[:, :cars], forced[:, :cars]
    into_next = lambda a: np.concatenate([a[1:], a[-1:]])  # noqa: E731  row t holds what happens on entering t + 1
    order = np.cumsum(drifts.ravel()).reshape(rows, cars)
    result.blocks |= {
        "keep": np.where(into_next(drifts), 1.0, keep),
        "floor": np.where(into_next(drifts), 0.0, minimum),
        "forced": into_next(forced),
    }
    result.indices["drift"] = np.where(into_next(drifts), into_next(order) - 1, -1)
    result.drift_base = order[:, -1] if cars else np.zeros(rows, dtype=int)
    draws = np.random.RandomState(int(env.random_seed) + int(env.episode_tracker.episode))
    spread = 0.2 * np.sqrt(max(result.seconds, 1.0) / 3600.0)
    result.drift_noise = np.clip(draws.normal(1.0, spread, size=max(int(drifts.sum()), 1)), 0.6, 1.4)


def _read_appliances(env: Any, result: Reading) -> None:
    """Deferrable appliances: their cycles' windows and profiles (CityLearn ``DeferrableAppliance``)."""
    found = [(h, a) for h, b in enumerate(env.buildings) for a in b.deferrable_appliances or []]
    result.appliances = [a.name for _, a in found]
    schedules = [a.deferrable_appliance_simulation.flexibility_schedule for _, a in found]
    cycles = max((len(s) for s in schedules), default=0)
    longest = max((int(c["duration_steps"]) for s in schedules for c in s), default=0)
    offset = result.first_row
    shape = (len(found), cycles + 1)  # one more: the cycle that never comes
    never = 10.0**7
    table = {k: np.full(shape, never) for k in ("earliest", "latest", "deadline")}
    table |= {k: np.zeros(shape) for k in ("duration", "energy", "priority")}
    profile = np.zeros((*shape, longest + 1))
    for a, ((_, appliance), schedule) in enumerate(zip(found, schedules, strict=True)):
        previous = -1
        for n, c in enumerate(schedule):
            window = (
                int(c["earliest_start_time_step"]),
                int(c["latest_start_time_step"]),
                int(c["deadline_time_step"]),
            )
            if window[0] <= previous:
                raise UnsupportedSchema(
                    f"{appliance.name}: overlapping or unordered cycles ({c['cycle_id']}) are not modelled"
                )
            previous = max(window)
            table["earliest"][a, n], table["latest"][a, n], table["deadline"][a, n] = np.array(window) - offset
            table["duration"][a, n] = int(c["duration_steps"])
            table["energy"][a, n] = float(c["total_energy_kwh"])
            table["priority"][a, n] = float(c["priority"])
            profile[a, n, : int(c["duration_steps"])] = c["load_profile"]
    result.appliance = table | {
        "profile": profile,
        "home": np.array([h for h, _ in found], dtype=int),
        "slot": np.array(
            [_slot(result.action_names[h], f"deferrable_appliance_{a.name}") for h, a in found], dtype=int
        ),
        "trigger": np.array([float(a.trigger_threshold) for _, a in found]),
    }


def _slot(names: list[str], action: str) -> int:
    """Position of ``action`` in a home's action list, or -1 when the schema deactivates it."""
    return names.index(action) if action in names else -1


def _columns(series: list[Any], rows: int) -> Array:
    """Stack per-charger series into (rows, chargers) float64."""
    if not series:
        return np.zeros((rows, 0))
    return np.stack([np.asarray(s, dtype="float64")[:rows] for s in series], -1)
