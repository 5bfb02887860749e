"""What is measured, and the team reward built from the same terms.

The first half is NumPy on a finished run (a `Trajectory` and the `Service` its community owed), equal to
CityLearn's `evaluate_v2` on the whole run; the second half is the hourly reward in torch, differentiable,
whose sum over whole days gives the same cost, emissions, ramping, daily peak and import.

Formulas, and where CityLearn counts in its own way: docs/protocol.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from thesis_lib.community.splits import HOURS_PER_DAY, SPLITS, YEAR_ROWS, blocks, split_of_rows

# The composite: what the team is judged by, each term over business as usual's.
WEIGHTS = {"cost": 0.25, "emissions": 0.25, "ramping": 0.20, "daily_peak": 0.15, "import": 0.15}

UNITS = {
    "cost": "EUR",
    "emissions": "kg",
    "import": "kWh",
    "ramping": "kWh",
    "daily_peak": "kW",
    "load_factor_penalty": "1",
    "load_factor_penalty_median": "1",
    "annual_peak": "kW",
    "self_consumption": "1",
    "battery_cycles": "1",
    "ev_departures_met": "1",
    "ev_departures_met_count": "1",
    "ev_departures_feasible_count": "1",
    "ev_departures_count": "1",
    "ev_departures_met_causal": "1",
    "ev_departures_met_causal_count": "1",
    "ev_departures_feasible_causal_count": "1",
    "appliance_cycles_served": "1",
    "appliance_cycles_served_count": "1",
    "appliance_cycles_due_count": "1",
    "composite_vs_bau": "1",
}

SOC_EPSILON = 1e-6  # CityLearn's EV_DEPARTURE_EPS, in SOC and in kW


@dataclass(frozen=True)
class Trajectory:
    """What happened in N hours, from row `start` on. H homes, C chargers, V cars, A appliances.

    | field | shape | unit | meaning |
    | --- | --- | --- | --- |
    | net | (N, H) | kWh | net consumption from the grid, negative when exporting |
    | load | (N, H) | kWh | uncontrolled load |
    | pv | (N, H) | kWh | PV generation, >= 0 |
    | price | (N, H) | EUR/kWh | |
    | carbon | (N, H) | kg/kWh | |
    | battery | (N, H) | kWh | consumption of the home battery, negative when discharging |
    | battery_soc | (N, H) | 1 | after the hour's action |
    | chargers | (N, C) | kWh | consumption, negative when discharging |
    | car_soc | (N, V) | 1 | after the hour's action, of connected and of absent cars |
    | appliances | (N, A) | kWh | consumption |
    | started | (N, A) | int | index of the cycle that starts in this hour, or -1 |
    """

    net: np.ndarray
    load: np.ndarray
    pv: np.ndarray
    price: np.ndarray
    carbon: np.ndarray
    battery: np.ndarray
    battery_soc: np.ndarray
    chargers: np.ndarray
    car_soc: np.ndarray
    appliances: np.ndarray
    started: np.ndarray
    start: int = 0

    @property
    def hours(self) -> int:
        """Number of hours N."""
        return int(self.net.shape[0])

    @property
    def rows(self) -> np.ndarray:
        """Rows of the year, shape (N,)."""
        return np.arange(self.start, self.start + self.hours)

    @property
    def district(self) -> np.ndarray:
        """Signed district net consumption, kWh, shape (N,)."""
        return self.net.astype(np.float64).sum(axis=1)

    def save(self, path: Path) -> None:
        """Write every array to one compressed .npz file, atomically.

        Args:
            path: file to write; its folder must exist.

        Raises:
            OSError: if the folder cannot be written.

        Source:
            `numpy.savez_compressed`.
        """
        partial = path.with_name(path.name + ".part")
        with partial.open("wb") as file:
            np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})
        os.replace(partial, path)

    @classmethod
    def load_from(cls, path: Path) -> Trajectory:
        """Read what `save` wrote.

        Args:
            path: the .npz file.

        Returns:
            The trajectory.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file lacks an array.

        Source:
            `save`.
        """
        with np.load(path) as file:
            missing = [field.name for field in fields(cls) if field.name not in file]
            if missing:
                raise ValueError(f"{path} is not a trajectory: it lacks {', '.join(missing)}. Roll it again.")
            arrays = {field.name: file[field.name] for field in fields(cls)}
        return cls(**{**arrays, "start": int(arrays["start"])})


@dataclass(frozen=True)
class Service:
    """What the community owes its people, and what is needed to say whether it could be done.

    sessions, one line per departure that CityLearn counts, in rows of the year:
    home, charger, car (indices), connected_from (where CityLearn says the connection began), arrival (where
    this session began), departure (last connected row), disclosure (first row of the session that shows the
    departure time, or departure + 1), leaves (the car really leaves, or a new session begins: CityLearn also
    counts the hour before a late disclosure as a departure), arrival_soc and session_soc (SOC given by the
    data at connected_from and at arrival; NaN where the data give none), required_soc.

    cycles, one line per appliance cycle: appliance (index), cycle (index within the appliance), earliest,
    latest, deadline (rows, inclusive), duration (hours), energy (kWh).
    """

    sessions: pd.DataFrame
    cycles: pd.DataFrame
    battery_capacity: np.ndarray  # (H,) kWh
    charger_power: np.ndarray  # (C,) kW, largest charging power
    charger_power_min: np.ndarray  # (C,) kW, below it nothing flows
    charger_curve: list[np.ndarray]  # C times (2, points): power over the largest -> efficiency
    car_capacity: np.ndarray  # (V,) kWh
    car_power: np.ndarray  # (V,) kW, nominal power of the car's battery
    car_power_curve: list[np.ndarray]  # V times (2, points): SOC -> share of nominal power
    car_efficiency_curve: list[np.ndarray]  # V times (2, points): power over nominal -> round-trip efficiency
    tolerance: float  # SOC below the required one that still counts as met
    step_hours: float  # hours per row

    @classmethod
    def from_citylearn(cls, env: Any) -> Service:
        """Read sessions, cycles and constants off a loaded CityLearn environment.

        Args:
            env: CityLearnEnv, reset or finished; its window gives the rows.

        Returns:
            The service owed in the window of the environment.

        Raises:
            ValueError: if the environment has charging constraints, which are not modelled.

        Source:
            CityLearn 3.0.2 `internal/kpi.py`: `_compute_ev_metrics`, `_ev_connected_interval_start`,
            `_ev_arrival_soc_for_interval`; `energy_model.py`: `DeferrableAppliance`.
        """
        start = int(env.episode_tracker.episode_start_time_step)
        cars = {car.name: index for index, car in enumerate(env.electric_vehicles)}
        batteries = [car.battery for car in env.electric_vehicles]
        sessions: list[dict[str, Any]] = []
        cycles: list[dict[str, Any]] = []
        chargers: list[Any] = []
        appliances = 0
        for home, building in enumerate(env.buildings):
            if getattr(building, "_charging_constraints_enabled", False):
                raise ValueError(f"{building.name} has charging constraints, which are not modelled: remove them.")
            for charger in building.electric_vehicle_chargers or []:
                initial = {name: batteries[index].initial_soc for name, index in cars.items()}
                for session in _sessions(charger.charger_simulation, initial):
                    car = cars[session.pop("car")]
                    sessions.append({"home": home, "charger": len(chargers), "car": car, **session})
                chargers.append(charger)
            for appliance in building.deferrable_appliances or []:
                for index, cycle in enumerate(appliance.deferrable_appliance_simulation.flexibility_schedule):
                    cycles.append(
                        {
                            "appliance": appliances,
                            "cycle": index,
                            "earliest": int(cycle["earliest_start_time_step"]),
                            "latest": int(cycle["latest_start_time_step"]),
                            "deadline": int(cycle["deadline_time_step"]),
                            "duration": int(cycle["duration_steps"]),
                            "energy": float(cycle["total_energy_kwh"]),
                        }
                    )
                appliances += 1
        table = pd.DataFrame(sessions, columns=_SESSION_COLUMNS)
        for column in ("connected_from", "arrival", "departure", "disclosure"):
            table[column] += start
        return cls(
            sessions=table,
            cycles=pd.DataFrame(cycles, columns=_CYCLE_COLUMNS),
            battery_capacity=np.array([b.electrical_storage.capacity for b in env.buildings], np.float64),
            charger_power=np.array([c.max_charging_power for c in chargers], np.float64),
            charger_power_min=np.array([c.min_charging_power for c in chargers], np.float64),
            charger_curve=[
                np.array([[0.0, 1.0], [c.efficiency, c.efficiency]])
                if c.charge_efficiency_curve is None
                else np.asarray(c.charge_efficiency_curve, np.float64)
                for c in chargers
            ],
            car_capacity=np.array([b.capacity for b in batteries], np.float64),
            car_power=np.array([b.nominal_power for b in batteries], np.float64),
            car_power_curve=[np.asarray(b.capacity_power_curve, np.float64) for b in batteries],
            car_efficiency_curve=[np.asarray(b.power_efficiency_curve, np.float64) for b in batteries],
            tolerance=float(env.ev_departure_service_tolerance),
            step_hours=float(env.seconds_per_time_step) / 3600.0,
        )


_SESSION_COLUMNS = [
    *("home", "charger", "car", "connected_from", "arrival", "departure", "disclosure"),
    *("leaves", "arrival_soc", "session_soc", "required_soc"),
]
_CYCLE_COLUMNS = ["appliance", "cycle", "earliest", "latest", "deadline", "duration", "energy"]


def _sessions(sim: Any, initial_soc: Mapping[str, float]) -> list[dict[str, Any]]:
    """Sessions of one charger, in rows of the environment's window, as CityLearn's KPIs find them."""
    connected = np.asarray(sim.electric_vehicle_charger_state, np.float64) == 1
    away = np.isin(np.asarray(sim.electric_vehicle_charger_state, np.float64), (2, 3))
    countdown = np.asarray(sim.electric_vehicle_departure_time, np.int64)
    required = np.asarray(sim.electric_vehicle_required_soc_departure, np.float64)
    announced = np.asarray(sim.electric_vehicle_estimated_soc_arrival, np.float64)
    names = [_name(value) for value in sim.electric_vehicle_id]
    session_names = [_name(value) for value in sim.electric_vehicle_session_id]
    rows = len(connected)

    def changes(values: list[str], row: int) -> bool:  # between row and row + 1, both known
        return values[row] != "" and values[row + 1] != "" and values[row] != values[row + 1]

    def soc_at(row: int) -> float:  # the SOC the data give to a car that connects at this row, or NaN
        candidates = []
        if row > 0 and away[row - 1] and ("" in (names[row], names[row - 1]) or names[row] == names[row - 1]):
            candidates.append(announced[row - 1])
        candidates.append(announced[row])
        if row == 0:
            candidates.append(initial_soc.get(names[row], np.nan))
        return next((float(soc) for soc in candidates if 0.0 <= soc <= 1.0), np.nan)

    found: list[dict[str, Any]] = []
    connected_from = arrival = 0
    for row in range(rows - 1):  # the last row has no action
        if not connected[row]:
            continue
        fresh = row == 0 or not connected[row - 1]
        if fresh or changes(names, row - 1) or changes(session_names, row - 1):
            connected_from = arrival = row
        unnamed = session_names[row] == "" and session_names[row + 1] == ""
        resets = bool(unnamed and countdown[row] <= 1 and countdown[row + 1] > countdown[row])
        ends = not connected[row + 1] or changes(names, row) or changes(session_names, row)
        if not (ends or resets):
            continue
        began, leaves = arrival, bool(ends or countdown[row] >= 0)
        if leaves:
            arrival = row + 1
        if names[row] == "" or not 0.0 <= required[row] <= 1.0:
            continue
        shown = np.flatnonzero(countdown[began : row + 1] >= 0)
        found.append(
            {
                "car": names[row],
                "connected_from": connected_from,
                "arrival": began,
                "departure": row,
                "disclosure": began + int(shown[0]) if shown.size else row + 1,
                "leaves": leaves,
                "arrival_soc": soc_at(connected_from),
                "session_soc": soc_at(began),
                "required_soc": float(required[row]),
            }
        )
    return found


def _name(value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    return "" if text.lower() == "nan" else text


def evaluate(trajectory: Trajectory, service: Service, reference: pd.DataFrame | None = None) -> pd.DataFrame:
    """Measure a run, whole and split by split.

    A session belongs to the split of its departure row, a cycle to that of its deadline, a ramp to that of
    its later hour, a day to its own. "year" is the whole run, however long.

    Args:
        trajectory: the run, N hours.
        service: what was owed, read off the environment of the same window (or of a larger one: sessions
            that had begun before the run's first row are then left out).
        reference: rows of business as usual on the same hours, as this function returns them; adds
            composite_vs_bau.

    Returns:
        Data frame with columns split, kpi, value, unit; splits without any hour are left out. A ratio
        without events is NaN.

    Raises:
        ValueError: if the trajectory has a NaN, the wrong number of homes, or the reference lacks a row.

    Source:
        CityLearn 3.0.2 `evaluate_v2` (`internal/kpi.py`), equal to it on the whole run.
    """
    _check(trajectory, service)
    steps_per_day = max(round(HOURS_PER_DAY / service.step_hours), 1)
    day = trajectory.rows // steps_per_day
    names = _split_of(trajectory.rows, service.step_hours)
    met = departures(trajectory, service)
    cycles = _cycles(trajectory, service)

    lines: list[tuple[str, str, float]] = []
    for split in (*SPLITS, "year"):
        inside = np.ones(trajectory.hours, bool) if split == "year" else names == split
        if not inside.any():
            continue
        values = _flows(trajectory, service, inside, day)
        values |= _departure_counts(met if split == "year" else met[_split_of(met.row, service.step_hours) == split])
        values |= _cycle_counts(
            cycles if split == "year" else cycles[_split_of(cycles.row, service.step_hours) == split]
        )
        if reference is not None:
            values["composite_vs_bau"] = _composite(values, reference, split)
        lines += [(split, kpi, float(values[kpi])) for kpi in UNITS if kpi in values]
    table = pd.DataFrame(lines, columns=["split", "kpi", "value"])
    return table.assign(unit=table.kpi.map(UNITS))


def weekly(trajectory: Trajectory, service: Service, split: str = "test") -> pd.DataFrame:
    """Measure the composite's terms in each week of a split, for comparisons paired by week.

    Args:
        trajectory: the run, N hours.
        service: what was owed.
        split: whose weeks; those that the run does not cover whole are left out.

    Returns:
        Data frame with columns week (from 0, in order of time), kpi, value, in the units of `UNITS`.

    Raises:
        ValueError: as `evaluate`, or an unknown split.

    Source:
        `evaluate`, on the rows of one week.
    """
    _check(trajectory, service)
    hours = np.floor(trajectory.rows * service.step_hours).astype(np.int64)
    lines = []
    for week, (start, stop) in enumerate(blocks(split)):
        inside = (hours >= start) & (hours < stop)
        if (inside.sum() + 1) * service.step_hours >= stop - start:  # the year's last row has no action
            values = _flows(trajectory, service, inside, hours // HOURS_PER_DAY)
            lines += [(week, kpi, values[kpi]) for kpi in WEIGHTS]
    return pd.DataFrame(lines, columns=["week", "kpi", "value"])


def _check(trajectory: Trajectory, service: Service) -> None:
    homes = trajectory.net.shape[1] if trajectory.net.ndim == 2 else -1
    if homes != len(service.battery_capacity):
        raise ValueError(
            f"the run has {homes} homes and the service {len(service.battery_capacity)}: not the same community."
        )
    for name in ("net", "price", "carbon", "pv", "battery", "car_soc"):
        if not np.isfinite(getattr(trajectory, name)).all():
            raise ValueError(f"the run has a NaN in {name}: look at the data or at the controller.")


def _split_of(rows: np.ndarray | pd.Series, step_hours: float) -> np.ndarray:
    """Split of each row; a deadline past the last hour of the year belongs to the last split."""
    hours = np.floor(np.asarray(rows, np.float64) * step_hours).astype(np.int64)
    return split_of_rows(YEAR_ROWS)[np.clip(hours, 0, YEAR_ROWS - 1)]


def _flows(trajectory: Trajectory, service: Service, inside: np.ndarray, day: np.ndarray) -> dict[str, float]:
    """KPIs of energy over the hours that are `inside` (N,); `day` (N,) numbers the days."""
    net = trajectory.net[inside].astype(np.float64)
    imported = np.clip(net, 0.0, None)
    district = trajectory.district
    upward = np.clip(np.diff(district, prepend=district[:1]), 0.0, None)  # the first hour has no ramp
    power = pd.Series(district[inside] / service.step_hours).groupby(day[inside])
    peak, mean = power.max().to_numpy(), power.mean().to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        penalty = 1.0 - mean / peak
    penalty = penalty[~np.isnan(penalty)]  # as CityLearn: a day of zeros has no load factor
    district = district[inside]
    generation = trajectory.pv[inside].astype(np.float64).sum(axis=1)
    exported = np.minimum(generation, np.clip(-district, 0.0, None))
    throughput = np.abs(trajectory.battery[inside].astype(np.float64)).sum()
    return {
        "cost": float((trajectory.price[inside] * imported).sum()),
        "emissions": float((trajectory.carbon[inside] * imported).sum()),
        "import": float(np.clip(district, 0.0, None).sum()),
        "ramping": float(upward[inside].sum()),
        "daily_peak": float(peak.mean()),
        "load_factor_penalty": float(penalty.mean()) if penalty.size else np.nan,
        "load_factor_penalty_median": float(np.median(penalty)) if penalty.size else np.nan,
        "annual_peak": float(peak.max()),
        "self_consumption": _ratio(generation.sum() - exported.sum(), generation.sum()),
        "battery_cycles": _ratio(throughput, 2.0 * service.battery_capacity.sum()),
    }


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0.0 else float("nan")


def departures(trajectory: Trajectory, service: Service) -> pd.DataFrame:
    """List the departures of a run and how each went.

    Args:
        trajectory: the run.
        service: what was owed; sessions that began before the run or end after it are left out.

    Returns:
        Data frame, one line a departure: row (last connected), home, charger, car (indices), soc, required,
        leaves (see `Service`), met (soc >= required - tolerance), feasible (as CityLearn counts), causal (it
        leaves, and charging from the disclosure on would do).

    Raises:
        Nothing.

    Source:
        CityLearn 3.0.2 `_compute_ev_metrics`.
    """
    first, last = trajectory.start, trajectory.start + trajectory.hours - 1
    s = service.sessions
    s = s[(s.connected_from >= first) & (s.departure <= last)]
    threshold = np.clip(s.required_soc.to_numpy(np.float64) - service.tolerance, 0.0, None)
    car = s.car.to_numpy(np.int64)

    def soc_from(row: pd.Series, given: pd.Series) -> np.ndarray:  # the data's SOC, else the car's own
        before = np.clip(row.to_numpy(np.int64) - first - 1, 0, None)
        return np.where(given.isna(), trajectory.car_soc[before, car].astype(np.float64), given)

    actual = trajectory.car_soc[s.departure.to_numpy(np.int64) - first, car].astype(np.float64)
    feasible = reachable(
        service, s, soc_from(s.connected_from, s.arrival_soc), s.departure - s.connected_from + 1, threshold
    )
    known = np.clip(s.departure - s.disclosure + 1, 0, None)
    causal = reachable(service, s, soc_from(s.arrival, s.session_soc), known, threshold)
    return pd.DataFrame(
        {
            "row": s.departure.to_numpy(np.int64),
            **{name: s[name].to_numpy(np.int64) for name in ("home", "charger", "car")},
            "soc": actual,
            "required": s.required_soc.to_numpy(np.float64),
            "leaves": s.leaves.to_numpy(bool),
            "met": actual + service.tolerance + SOC_EPSILON >= s.required_soc.to_numpy(np.float64),
            "feasible": feasible,
            "causal": causal & s.leaves.to_numpy(bool),
        }
    )


def reachable(
    service: Service,
    sessions: pd.DataFrame,
    soc: np.ndarray,
    hours: pd.Series | np.ndarray,
    threshold: np.ndarray,
) -> np.ndarray:
    """Say which sessions reach a SOC by charging at full power.

    Args:
        service: constants of chargers and cars.
        sessions: lines of `service.sessions`, n of them; only charger and car are read.
        soc: SOC to start from, (n,).
        hours: rows in which charging is possible, (n,).
        threshold: SOC to reach, (n,).

    Returns:
        Boolean array (n,).

    Raises:
        Nothing.

    Source:
        CityLearn 3.0.2 `_ev_departure_threshold_feasible`, all sessions of a charger at once.
    """
    answer = np.zeros(len(sessions), bool)
    hours = np.asarray(hours, np.int64)
    pairs = sessions[["charger", "car"]].to_numpy(np.int64)
    for charger, car in np.unique(pairs, axis=0):
        these = (pairs == (charger, car)).all(axis=1)
        level, goal, left = soc[these].astype(np.float64), threshold[these], hours[these]
        active = np.ones(len(level), bool)
        for hour in range(int(left.max(initial=0))):
            active &= (hour < left) & (level + SOC_EPSILON < goal)
            if not active.any():
                break
            share = np.clip(_interpolate(service.car_power_curve[car], level), 0.0, None)
            power = np.minimum(service.charger_power[charger], service.car_power[car] * share)
            power = np.where(power < service.charger_power_min[charger], 0.0, power)
            efficiency = _interpolate(service.charger_curve[charger], power / service.charger_power[charger])
            leg = np.sqrt(
                np.clip(_interpolate(service.car_efficiency_curve[car], power / service.car_power[car]), 0, 1)
            )
            gain = power * service.step_hours * efficiency * leg / service.car_capacity[car]
            active &= (power > SOC_EPSILON) & (gain > SOC_EPSILON)
            level = np.where(active, np.clip(level + gain, 0.0, 1.0), level)
        answer[these] = level + SOC_EPSILON >= goal
    return answer


def _interpolate(curve: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.interp(x, curve[0], curve[1])


def _departure_counts(met: pd.DataFrame) -> dict[str, float]:
    served, feasible = int((met.met & met.feasible).sum()), int(met.feasible.sum())
    served_causal, causal = int((met.met & met.causal).sum()), int(met.causal.sum())
    return {
        "ev_departures_met": _ratio(served, feasible),
        "ev_departures_met_count": served,
        "ev_departures_feasible_count": feasible,
        "ev_departures_count": len(met),
        "ev_departures_met_causal": _ratio(served_causal, causal),
        "ev_departures_met_causal_count": served_causal,
        "ev_departures_feasible_causal_count": causal,
    }


def _cycles(trajectory: Trajectory, service: Service) -> pd.DataFrame:
    """Appliance cycles that were completed or missed within the run: row (of the deadline), served."""
    first, last = trajectory.start, trajectory.start + trajectory.hours - 1
    c = service.cycles
    begun = np.full(len(c), -1, np.int64)
    for line, (appliance, cycle) in enumerate(zip(c.appliance, c.cycle, strict=True)):
        hours = np.flatnonzero(trajectory.started[:, appliance] == cycle)
        if hours.size:
            begun[line] = first + hours[0]
    completed = (begun >= 0) & (begun + c.duration.to_numpy(np.int64) - 1 <= last)
    missed = (begun < 0) & (c.latest >= first).to_numpy() & (c.latest < last).to_numpy()
    due = completed | missed
    return pd.DataFrame({"row": c.deadline.to_numpy(np.int64)[due], "served": completed[due]})


def _cycle_counts(cycles: pd.DataFrame) -> dict[str, float]:
    return {
        "appliance_cycles_served": _ratio(int(cycles.served.sum()), len(cycles)),
        "appliance_cycles_served_count": int(cycles.served.sum()),
        "appliance_cycles_due_count": len(cycles),
    }


def _composite(values: Mapping[str, float], reference: pd.DataFrame, split: str) -> float:
    total = 0.0
    for kpi, weight in WEIGHTS.items():
        row = reference[(reference.split == split) & (reference.kpi == kpi)]
        if len(row) != 1:
            raise ValueError(
                f"the reference has {len(row)} rows of {kpi} for {split}, not 1: evaluate business_as_usual first."
            )
        total += weight * values[kpi] / float(row.value.iloc[0])
    return total


# The team reward: the composite, hour by hour, in torch.


def reward_scale(trajectory: Trajectory, split: str | None = "train", step_hours: float = 1.0) -> dict[str, float]:
    """Mean per hour of each reward term in a run; of business as usual's train rows, it is what to divide by.

    Args:
        trajectory: the run.
        split: rows that count; None for all.
        step_hours: hours per row.

    Returns:
        Term of `WEIGHTS` -> its mean per hour (EUR, kg, kWh, kW, kWh). With these as scale, the mean reward
        of the same run over the same rows is minus one.

    Raises:
        ValueError: if no row of the split is in the run, or a term is zero there.

    Source:
        docs/protocol.md, composite_vs_bau.
    """
    inside = np.ones(trajectory.hours, bool)
    if split is not None:
        inside = _split_of(trajectory.rows, step_hours) == split
    if not inside.any():
        raise ValueError(f"the run has no {split} row to take the reward's scale from: roll it longer.")
    net = torch.from_numpy(trajectory.net.astype(np.float64))
    imported = net.clamp(min=0.0)
    district = net.sum(1)
    day = torch.from_numpy(trajectory.rows // max(round(HOURS_PER_DAY / step_hours), 1))
    day_start = torch.cat([torch.ones(1, dtype=torch.bool), day[1:] != day[:-1]])
    peak_before = torch.zeros_like(district)
    for hour in range(1, trajectory.hours):
        earlier = district[hour - 1]
        peak_before[hour] = earlier if day_start[hour - 1] else torch.maximum(peak_before[hour - 1], earlier)
    terms = _terms(
        district,
        (imported * torch.from_numpy(trajectory.price.astype(np.float64))).sum(1),
        (imported * torch.from_numpy(trajectory.carbon.astype(np.float64))).sum(1),
        torch.cat([district[:1], district[:-1]]),
        peak_before,
        day_start,
    )
    scale = {name: float(values[torch.from_numpy(inside)].mean()) for name, values in terms.items()}
    empty = [name for name, value in scale.items() if not value > 0.0]
    if empty:
        raise ValueError(f"the reference has no {', '.join(empty)}: the reward cannot be scaled by it.")
    return scale


def team_reward(
    net: Tensor,
    cost: Tensor,
    emissions: Tensor,
    previous_net: Tensor,
    day_peak_before: Tensor,
    day_start: Tensor,
    scale: Mapping[str, float],
    weights: Mapping[str, float] = WEIGHTS,
) -> Tensor:
    """Reward of the community for one hour: minus the composite, differentiable.

    | tensor | shape | unit |
    | --- | --- | --- |
    | net, cost, emissions | (B, H) | kWh, EUR, kg: of each home, this hour |
    | previous_net | (B,) | kWh, district's of the hour before |
    | day_peak_before | (B,) | kWh, district's largest hour of this day so far; not read where day_start |
    | day_start | (B,) bool | this hour is the first of its day |

    Args:
        net, cost, emissions, previous_net, day_peak_before, day_start: as in the table.
        scale: business as usual's mean per hour of each term, from `reward_scale`.
        weights: share of each term; the composite's unless said otherwise.

    Returns:
        (B,) reward. Summed over whole days, its terms are the KPIs of the same name (daily_peak: its sum).

    Raises:
        KeyError: if a term of weights has no scale.

    Source:
        docs/protocol.md, composite_vs_bau.
    """
    terms = _terms(net.sum(-1), cost.sum(-1), emissions.sum(-1), previous_net, day_peak_before, day_start)
    return _weigh(terms, scale, weights, 1)


def individual_reward(
    net: Tensor,
    cost: Tensor,
    emissions: Tensor,
    previous_net: Tensor,
    day_peak_before: Tensor,
    day_start: Tensor,
    scale: Mapping[str, float],
    weights: Mapping[str, float] = WEIGHTS,
) -> Tensor:
    """Reward of each home on its own: the same terms on its own net, for selfish learners.

    Args:
        net, cost, emissions, previous_net, day_peak_before: (B, H), as in `team_reward` but of each home.
        day_start: (B,) bool.
        scale: the district's, from `reward_scale`; each home is measured against an equal share of it, so
            that the mean over homes of the cost and emission terms is the team's.
        weights: share of each term.

    Returns:
        (B, H) reward.

    Raises:
        KeyError: if a term of weights has no scale.

    Source:
        docs/protocol.md, composite_vs_bau.
    """
    terms = _terms(net, cost, emissions, previous_net, day_peak_before, day_start[..., None])
    return _weigh(terms, scale, weights, net.shape[-1])


def _terms(
    net: Tensor, cost: Tensor, emissions: Tensor, previous: Tensor, peak_before: Tensor, day_start: Tensor
) -> dict[str, Tensor]:
    return {
        "cost": cost,
        "emissions": emissions,
        "ramping": (net - previous).clamp(min=0.0),
        "daily_peak": torch.where(day_start, net, (net - peak_before).clamp(min=0.0)),
        "import": net.clamp(min=0.0),
    }


def _weigh(terms: dict[str, Tensor], scale: Mapping[str, float], weights: Mapping[str, float], homes: int) -> Tensor:
    total = torch.zeros_like(terms["cost"])
    for name, weight in weights.items():
        total = total - weight * homes / scale[name] * terms[name]
    return total
