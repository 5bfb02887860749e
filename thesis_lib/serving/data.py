"""The data set's series at run time, from its own files, without CityLearn and without pandas.

What the community's graphs do not hold - loads, sun, weather, prices, who is plugged in when - is read from the files
with the types CityLearn reads them with, put where `reading` looks for it, and given to `reading`, so that sessions
and drifts are worked out by the same lines as everywhere else. A test compares every value with the model's.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_dir

from thesis_lib.community import reading as readings

NAME = "citylearn_challenge_2022_phase_all_plus_evs"
CITYLEARN = ("citylearn", "citylearn-project", "v3.0.2")  # whose cache has it, as `dataset.find` looks for it there
CHECKSUMS = Path(readings.__file__).with_name("official.sha256")
CALENDAR = ("month", "hour", "day_type")
Array = NDArray[Any]


class DataError(ValueError):
    """No data set to be had, or one that does not fit; its text is one line."""


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Folders that may not be entered, files cut short: DataError."""
    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError, LookupError) as error:
        raise DataError(f"the data set cannot be read ({error}): restore its files") from None


@dataclass(frozen=True)
class Series:
    """What the graphs want besides the state: T rows, names as in ``Community``."""

    edition: str
    folder: Path
    table: Array  # (T, width) float64
    index_table: Array  # (T, width) int64
    start_soc: Array  # (T, V)
    drift_noise: Array  # (draws,)
    drift_base: Array  # (T,) int64
    cycles: dict[str, Array]  # earliest, latest, deadline, duration, energy, priority, window, profile
    price: Array  # (T,) EUR/kWh
    carbon: Array  # (T,) kg/kWh

    @property
    def rows(self) -> int:
        """T."""
        return len(self.table)


@_in_one_line()
def find(folder: Path | None, edition: str) -> Path:
    """The folder of an edition: the one given, else that of CITYLEARN_DATASETS, else the cache the edition lies in.

    Raises:
        DataError: it is in none of them, the one given is of another edition, or one is of neither.
    """
    tried = []
    configured = os.environ.get("CITYLEARN_DATASETS")
    for origin, place in (("THESIS_DATA", folder), ("CITYLEARN_DATASETS", configured and Path(configured))):
        if place:
            for candidate in (Path(place).expanduser(), Path(place).expanduser() / NAME):
                if (candidate / "schema.json").is_file():
                    if (found := _edition(candidate)) == edition:
                        return candidate
                    tried.append(f"{origin} {place} has the {found} edition, the policy is of the {edition} one")
                    break
            else:
                tried.append(f"no schema.json in {origin} {place}")
            if origin == "THESIS_DATA":
                raise DataError(f"{tried[-1]}: set it to the folder of the data set, {edition} edition")
    if edition == "official":
        cache, wanted = Path(user_cache_dir(*CITYLEARN)), f"datasets/{NAME}"
    else:
        own = os.environ.get("THESIS_CACHE") or user_cache_dir("thesis_lib", appauthor=False)
        cache, wanted = Path(own).expanduser(), "offline-*"
    for candidate in sorted(cache.glob(f"{wanted}/schema.json")):
        if _edition(candidate.parent) == edition:
            return candidate.parent
    tried.append(f"none in {cache}")
    raise DataError("; ".join(tried) + f": set CITYLEARN_DATASETS to the folder of the data set, {edition} edition")


def _edition(folder: Path) -> str:
    """``official`` or ``offline``, by checksums."""
    expected = _sums(CHECKSUMS)
    if all(_sum(folder / name) == digest for name, digest in expected.items()):
        return "official"
    own = folder / "SHA256SUMS"
    if folder.name.startswith("offline-") and own.is_file():
        wrong = [name for name, digest in _sums(own).items() if _sum(folder / name) != digest]
        if not wrong:
            return "offline"
        raise DataError(f"{folder / wrong[0]} has been altered: generate the offline edition anew")
    raise DataError(f"{folder} is neither the official edition nor the generated offline one: restore its files")


def _sums(file: Path) -> dict[str, str]:
    lines = (line.split() for line in file.read_text(encoding="utf-8").splitlines())
    return {name.lstrip("*"): digest for digest, name in lines}


def _sum(file: Path) -> str | None:
    """As `dataset.checksum`: of ``schema.json`` without its ``root_directory``."""
    if not file.is_file():
        return None
    data = file.read_bytes()
    if file.name == "schema.json":
        schema = json.loads(data)
        schema.pop("root_directory", None)
        data = json.dumps(schema, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(data).hexdigest()


@_in_one_line()
def read(folder: Path | None, edition: str, about: dict[str, Any]) -> Series:
    """Read the series of a community.

    Args:
        folder: of the data set; None to look for it.
        edition: ``official`` or ``offline``, that of the policy: hours of another are not those it was judged by.
        about: what the graphs say of the community they were made from (the metadata ``community``).

    Raises:
        DataError: no data set of the edition, or one of another community.
    """
    where = find(folder, edition)
    schema = json.loads((where / "schema.json").read_text(encoding="utf-8"))
    homes = {name: home for name, home in schema["buildings"].items() if home.get("include", True)}
    if list(homes) != about["homes"]:
        raise DataError(f"{where} has other homes than the model")
    shared: dict[str, SimpleNamespace] = {}

    def series(name: str) -> SimpleNamespace:
        if name not in shared:
            shared[name] = SimpleNamespace(**{k: _floats(v) for k, v in _columns(where / name).items()})
        return shared[name]

    rows = int(schema["simulation_end_time_step"]) + 1  # some files go on beyond the year
    buildings = [_building(where, name, home, series, rows) for name, home in homes.items()]
    env = SimpleNamespace(
        buildings=buildings,
        electric_vehicles=[SimpleNamespace(name=car) for car in about["cars"]],
        random_seed=schema["random_seed"],
        episode_tracker=SimpleNamespace(episode=0),
    )
    found = readings.Reading(
        seconds=float(schema["seconds_per_time_step"]),
        homes=about["homes"],
        observation_names=about["observation_names"],
        action_names=about["action_names"],
        action_low=[],
        action_high=[],
        storage={"minimum_soc": np.array(about["minimum_soc"]), "keep": np.array(about["keep"])},
        cars=about["cars"],
    )
    readings._read_series(env, found)
    readings._read_chargers(env, found)
    readings._read_appliances(env, found)
    if found.chargers != about["chargers"] or found.appliances != about["appliances"]:
        raise DataError(f"{where} has other chargers or appliances than the model")
    cycles = found.appliance
    alive = [np.searchsorted(latest, np.arange(rows)) for latest in cycles["latest"]]
    indices = found.indices | {"alive": np.stack(alive, -1) if alive else np.zeros((rows, 0), dtype=int)}
    last = np.minimum(cycles["latest"], cycles["deadline"] - cycles["duration"] + 1)
    whole = ("earliest", "latest", "deadline", "duration")
    market = found.blocks["market"]
    return Series(
        edition=edition,
        folder=where,
        table=np.concatenate([found.blocks[name] for name in about["floats"]], -1).astype(np.float64),
        index_table=np.concatenate([indices[name] for name in about["indices"]], -1).astype(np.int64),
        start_soc=found.start_soc,
        drift_noise=found.drift_noise,
        drift_base=found.drift_base.astype(np.int64),
        cycles={name: cycles[name].astype(np.int64) for name in whole}
        | {name: cycles[name].astype(np.float64) for name in ("energy", "priority", "profile")}
        | {"window": np.stack([cycles["earliest"], last, cycles["duration"]], -1).astype(np.int64)},
        price=market[:, found.price_column[0]],
        carbon=market[:, found.carbon_column[0]],
    )


def _columns(file: Path) -> dict[str, list[str]]:
    """A CSV's columns as text."""
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = csv.reader(lines)
            names = next(rows)
            return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    except (OSError, ValueError, StopIteration) as error:
        raise DataError(f"{file} cannot be read ({error}): restore the file") from None


def _floats(values: list[str]) -> Array:
    """As CityLearn keeps a series."""
    return np.array([float(value) if value else np.nan for value in values]).astype(np.float32)


def _building(where: Path, name: str, home: dict[str, Any], series: Any, rows: int) -> SimpleNamespace:
    """What `reading` looks at in a CityLearn ``Building``."""
    energy = _columns(where / home["energy_simulation"])
    nominal = float(home["pv"]["attributes"]["nominal_power"])
    chargers = []
    for label, charger in (home.get("chargers") or {}).items():
        file = _columns(where / charger["charger_simulation"])
        chargers.append(
            SimpleNamespace(
                charger_id=label, charger_simulation=_sessions(file, rows), **_limits(charger["attributes"])
            )
        )
    appliances = [
        SimpleNamespace(
            name=label,
            trigger_threshold=0.0,  # a constant of the graphs
            deferrable_appliance_simulation=SimpleNamespace(flexibility_schedule=_schedule(where, appliance)),
        )
        for label, appliance in (home.get("deferrable_appliances") or {}).items()
    ]
    return SimpleNamespace(
        name=name,
        time_step_ratio=1.0,
        energy_simulation=SimpleNamespace(
            **{column: np.array(energy[column], dtype=float).astype("int32") for column in CALENDAR},
            non_shiftable_load=_floats(energy["non_shiftable_load"]),
            solar_generation=_floats(energy["solar_generation"]),
        ),
        pv=SimpleNamespace(generation_mode="per_kw", get_generation=lambda power: nominal * power / 1000.0),
        weather=series(home["weather"]),
        pricing=series(home["pricing"]),
        carbon_intensity=series(home["carbon_intensity"]),
        electric_vehicle_chargers=chargers,
        deferrable_appliances=appliances,
    )


def _limits(attributes: dict[str, Any]) -> dict[str, float]:
    """A charger's constants; the graphs have their own, `reading` only wants to see some."""
    names = ("max_charging_power", "min_charging_power", "max_discharging_power", "min_discharging_power", "efficiency")
    return {name: float(attributes.get(name) or 0.0) for name in names}


def _sessions(file: dict[str, list[str]], rows: int) -> SimpleNamespace:
    """As ``ChargerSimulation``: missing times -1, missing SOCs -0.1, percentages as fractions."""
    file = {name: values[:rows] for name, values in file.items()}

    def times(name: str) -> Array:
        values = _floats(file[name])
        return np.where(np.isnan(values), -1, values).astype("int32")

    def socs(name: str) -> Array:
        values = _floats(file[name])
        known = np.where(np.isnan(values), np.float32(-0.1), values)
        shown = np.full(known.shape, -0.1, np.float32)
        share, percent = (known >= 0) & (known <= 1), known > 1
        shown[share], shown[percent] = known[share], known[percent] / np.float32(100.0)
        return np.where(known >= 0, np.clip(shown, 0.0, 1.0), shown).astype(np.float32)

    first = "electric_vehicle_"
    found: dict[str, Any] = {
        first + "charger_state": np.array(
            [int(value) if value.isdigit() else np.nan for value in file[first + "charger_state"]], np.float32
        ),
        first + "id": np.array([value or np.nan for value in file[first + "id"]], dtype=object),
        first + "departure_time": times(first + "departure_time"),
        first + "required_soc_departure": socs(first + "required_soc_departure"),
        first + "estimated_arrival_time": times(first + "estimated_arrival_time"),
        first + "estimated_soc_arrival": socs(first + "estimated_soc_arrival"),
    }
    if first + "session_id" in file:
        found[first + "session_id"] = np.array(file[first + "session_id"], dtype=object)
    if first + "current_soc" in file:
        found[first + "current_soc"] = socs(first + "current_soc")
    return SimpleNamespace(**found)


def _schedule(where: Path, appliance: dict[str, Any]) -> list[dict[str, Any]]:
    """As ``DeferrableApplianceSimulation``: the cycles in the order of their windows."""

    def lines(name: str) -> list[dict[str, str]]:
        columns = _columns(where / appliance[name])
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    profiles = {line["profile_id"]: line for line in lines("cycle_profiles_file")}
    steps = ("earliest_start_time_step", "latest_start_time_step", "deadline_time_step")
    cycles = []
    for line in lines("flexibility_schedule_file"):
        profile = profiles[line["profile_id"]]
        load = np.atleast_1d(np.array(ast.literal_eval(profile["load_profile"]), dtype="float32"))
        cycles.append(
            {name: int(line[name]) for name in steps}
            | {
                "cycle_id": line["cycle_id"],
                "priority": float(np.clip(float(line["priority"]), 0.0, 1.0)),
                "duration_steps": int(profile["duration_steps"]),
                "total_energy_kwh": float(profile["total_energy_kwh"]),
                "load_profile": load,
            }
        )
    return sorted(cycles, key=lambda cycle: (*(cycle[name] for name in steps[:2]), cycle["cycle_id"]))
