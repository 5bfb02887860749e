"""The offline edition: the same homes, generated cars, for machines that cannot reach GitHub.

What is real: the 17 homes' load and PV, weather and carbon intensity, and a time-of-use tariff, from the PyPI
wheel ``citylearn==2.1.2``, fetched by hash and cached (a cached wheel needs no network). What is generated,
from one seed: the charging sessions of the eight cars and the cycles of the appliance, drawn by
``sessions.py`` from the figures in ``sessions.json``. Technical data (chargers, cars, batteries, PV sizes,
observations) are those of the official community, in ``community.json``, so that both editions have the same
schema.

The result is a CityLearn 3 folder in the cache, the same bytes on every machine, with its own checksums.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from platformdirs import user_cache_dir

from thesis_lib.community import sessions
from thesis_lib.community.dataset import (
    CHARGER_COLUMNS,
    DatasetError,
    DatasetNotFoundError,
    checksum,
    read_checksums,
    verify,
)

SEED = 2022
WHEEL = "citylearn==2.1.2"
WHEEL_FILE = "CityLearn-2.1.2-py3-none-any.whl"
WHEEL_SHA256 = "95730b1deed73b1f5a4d17eb8334be3c99efa4aef8677822378d62d8359511dd"
WHEEL_FOLDER = "citylearn/data/citylearn_challenge_2022_phase_all/"
COMMUNITY = Path(__file__).with_name("community.json")
BUILDING_COLUMNS = (
    "month,hour,day_type,daylight_savings_status,indoor_dry_bulb_temperature,"
    "average_unmet_cooling_setpoint_difference,indoor_relative_humidity,non_shiftable_load,dhw_demand,"
    "cooling_demand,heating_demand,solar_generation"
).split(",")
WEATHER_COLUMNS = [
    "outdoor_dry_bulb_temperature",
    "outdoor_relative_humidity",
    "diffuse_solar_irradiance",
    "direct_solar_irradiance",
]
FORECASTS = ("_predicted_1", "_predicted_2", "_predicted_3")  # 6, 12 and 24 hours ahead


def cache_folder() -> Path:
    """Where wheel and generated edition lie: ``THESIS_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("THESIS_CACHE") or user_cache_dir("thesis_lib", appauthor=False)).expanduser()


def find(seed: int = SEED) -> tuple[Path, dict[str, str]]:
    """Find the offline edition in the cache, or generate it there.

    Args:
        seed: of the sessions and cycles. The default is the one every result is from.

    Returns:
        The ``schema.json`` and the verified checksums of all files.

    Raises:
        DatasetNotFoundError: the wheel is not cached and PyPI is out of reach.
        DatasetError: a generated file has been altered, or the cache cannot be written.
    """
    # Another generator, other figures or another seed make another folder: an old one is never taken for a
    # new one.
    recipe = b"".join(
        file.read_bytes() for file in (Path(__file__), Path(sessions.__file__), sessions.FIGURES, COMMUNITY)
    )
    folder = cache_folder() / f"offline-{hashlib.sha256(recipe).hexdigest()[:12]}-{seed}"
    if not folder.exists():
        try:
            generate(folder, wheel(), seed)
        except OSError as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(
                f"cannot write {folder} ({error}); set THESIS_CACHE to a folder that can be written"
            ) from None
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        raise DatasetError(f"{sums} is missing; delete {folder} to have it generated anew")
    return folder / "schema.json", verify(folder, read_checksums(sums))


def wheel() -> Path:
    """The wheel with the homes' series: from the cache if its hash is right, else by pip, which checks it.

    Raises:
        DatasetNotFoundError: pip could not get it; the line has pip's last words.
    """
    cached = cache_folder() / "wheels" / WHEEL_FILE
    if cached.is_file() and checksum(cached) == WHEEL_SHA256:
        return cached
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent) as temporary:
        pinned = Path(temporary) / "pinned.txt"
        pinned.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        pip += ["--require-hashes", "--only-binary", ":all:", "--retries", "1", "--timeout", "15"]
        done = subprocess.run(
            [*pip, "--dest", temporary, "-r", str(pinned)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            raise DatasetNotFoundError(
                f"the offline edition needs the PyPI wheel {WHEEL} once ({said}); "
                f"connect, or put {WHEEL_FILE} into {cached.parent}"
            )
        os.replace(Path(temporary) / WHEEL_FILE, cached)
    return cached


def generate(folder: Path, wheel_file: Path, seed: int = SEED, figures: Path = sessions.FIGURES) -> None:
    """Write the offline edition as a CityLearn 3 folder, whole or not at all.

    Args:
        folder: to be made; taken as it is if another process makes it meanwhile.
        wheel_file: from :func:`wheel`.
        seed: of sessions and cycles; each charger and the appliance has its own stream.
        figures: the fitted distributions.
    """
    community = json.loads(COMMUNITY.read_text(encoding="utf-8"))
    fitted = json.loads(figures.read_text(encoding="utf-8"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix="generating-"))
    try:
        with zipfile.ZipFile(wheel_file) as archive:
            rows = _write_series(temporary, archive, community)
        for number, name in enumerate(community["chargers"]):
            drawn = sessions.draw_charger(fitted, name, rows, np.random.default_rng([seed, number]))
            _write(charger_table(drawn, community["chargers"][name]["car"], rows), temporary / f"{name}.csv")
        for number, name in enumerate(community["appliances"]):
            cycles = sessions.draw_cycles(fitted, rows // 24, np.random.default_rng([seed, 1000 + number]))
            _write_appliance(temporary, name, cycles)
        text = json.dumps(schema(community), indent=2) + "\n"
        (temporary / "schema.json").write_text(text, encoding="utf-8", newline="\n")
        sums = "".join(f"{checksum(file)}  {file.name}\n" for file in sorted(temporary.iterdir()))
        (temporary / "SHA256SUMS").write_text(sums, encoding="utf-8", newline="\n")
        if not folder.exists():
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def schema(community: dict[str, Any]) -> dict[str, Any]:
    """The CityLearn 3 schema of ``community.json``: but for ``root_directory``, the official one."""
    buildings: dict[str, Any] = {}
    for home, power in community["pv_kw"].items():
        buildings[home] = {
            "include": True,
            "energy_simulation": f"{home}.csv",
            "weather": "weather.csv",
            "carbon_intensity": "carbon_intensity.csv",
            "pricing": "pricing.csv",
            "inactive_observations": [],
            "inactive_actions": [],
            "electrical_storage": {
                "type": "citylearn.energy_model.Battery",
                "autosize": False,
                "attributes": community["battery"],
            },
            "pv": {
                "type": "citylearn.energy_model.PV",
                "autosize": False,
                "attributes": {"nominal_power": power},
            },
        }
    for name, charger in community["chargers"].items():
        buildings[charger["home"]].setdefault("chargers", {})[name] = {
            "type": "citylearn.electric_vehicle_charger.Charger",
            "charger_simulation": f"{name}.csv",
            "autosize": False,
            "attributes": {key: value for key, value in charger.items() if key not in ("home", "car")},
        }
    for name, home in community["appliances"].items():
        buildings[home].setdefault("deferrable_appliances", {})[name] = {
            "type": "citylearn.energy_model.DeferrableAppliance",
            "autosize": False,
            "cycle_profiles_file": f"{name}_cycle_profiles.csv",
            "flexibility_schedule_file": f"{name}_flexibility_schedule.csv",
        }
    cars = {
        name: {
            "include": True,
            "battery": {
                "type": "citylearn.energy_model.Battery",
                "autosize": False,
                "attributes": attributes,
            },
        }
        for name, attributes in community["cars"].items()
    }
    return {
        **community["settings"],
        "root_directory": None,
        "observations": {
            name: {"active": active, "shared_in_central_agent": shared}
            for name, (active, shared) in community["observations"].items()
        },
        "actions": {name: {"active": active} for name, active in community["actions"].items()},
        "electric_vehicles_def": cars,
        "buildings": buildings,
    }


def charger_table(drawn: pd.DataFrame, car: str, rows: int) -> pd.DataFrame:
    """Sessions as CityLearn's charger file: 1 connected, 2 incoming, 3 away; SOC in %; blank if unknown.

    Args:
        drawn: from ``sessions.draw_charger``.
        car: tied to the charger.
        rows: of the file.

    Returns:
        (rows, 6). The countdown reads 0 in the last connected row, and in the last row before an arrival.
    """
    state, cars = np.full(rows, 3), np.full(rows, None, dtype=object)
    countdown, required, arrives_in, soc = (np.full(rows, np.nan) for _ in range(4))
    for session in drawn.to_dict("records"):
        arrival, departure = session["arrival"], session["departure"]
        stay = np.arange(arrival, min(departure, rows))
        incoming = np.arange(arrival - session["announced"], min(arrival, rows))
        state[stay], state[incoming] = 1, 2
        cars[stay] = cars[incoming] = car
        countdown[stay] = np.where(stay < arrival + session["hidden"], np.nan, departure - 1 - stay)
        required[stay] = session["required_soc"]
        arrives_in[incoming] = arrival - 1 - incoming
        soc[incoming] = session["arrival_soc"]
    return pd.DataFrame(
        dict(zip(CHARGER_COLUMNS, (state, cars, countdown, required, arrives_in, soc), strict=True))
    )


def _write_series(folder: Path, archive: zipfile.ZipFile, community: dict[str, Any]) -> int:
    def read(name: str, columns: list[str]) -> pd.DataFrame:
        with archive.open(WHEEL_FOLDER + name) as file:
            table = pd.read_csv(file)
        table.columns = columns
        return table

    weather = WEATHER_COLUMNS + [name + hours for name in WEATHER_COLUMNS for hours in FORECASTS]
    price = ["electricity_pricing"] + ["electricity_pricing" + hours for hours in FORECASTS]
    for home in community["pv_kw"]:
        table = read(f"{home}.csv", BUILDING_COLUMNS)
        labels = BUILDING_COLUMNS[:4]
        table[labels] = table[labels].astype(int)
        # The wheel calls the first row hour 24 of the last day of July; the official files, hour 0 of August.
        table.loc[0, ["month", "hour", "day_type"]] = [8, 0, 1]
        _write(table, folder / f"{home}.csv")
    _write(read("weather.csv", weather), folder / "weather.csv")
    _write(read("pricing.csv", price), folder / "pricing.csv")
    _write(read("carbon_intensity.csv", ["carbon_intensity"]), folder / "carbon_intensity.csv")
    return len(table)


def _write_appliance(folder: Path, name: str, cycles: pd.DataFrame) -> None:
    number = [f"{n:04d}" for n in range(1, len(cycles) + 1)]
    profiles = pd.DataFrame(
        {
            "profile_id": [f"{name}_profile_{n}" for n in number],
            "duration_steps": [len(profile) for profile in cycles["profile"]],
            "total_energy_kwh": [round(sum(profile), 3) for profile in cycles["profile"]],
            "load_profile": [json.dumps(profile) for profile in cycles["profile"]],
        }
    )
    schedule = pd.DataFrame(
        {
            "cycle_id": [f"{name}_cycle_{n}" for n in number],
            "profile_id": profiles["profile_id"],
            "earliest_start_time_step": cycles["earliest"],
            "latest_start_time_step": cycles["latest"],
            "deadline_time_step": cycles["deadline"],
            "priority": 1.0,
            "must_run": True,
        }
    )
    _write(profiles, folder / f"{name}_cycle_profiles.csv")
    _write(schedule, folder / f"{name}_flexibility_schedule.csv")


def _write(table: pd.DataFrame, file: Path) -> None:
    table.to_csv(file, index=False, float_format="%.8g", lineterminator="\n", encoding="utf-8")
