"""Find, verify and load a community.

Two editions of the same 17 homes exist, and no result mixes them:

* ``official``: CityLearn's ``citylearn_challenge_2022_phase_all_plus_evs``, in CityLearn 3 format. Looked for
  in this order: an explicit path (the ``path`` argument, then ``CITYLEARN_DATASETS``), CityLearn's own cache,
  CityLearn's own download. Whatever is found must agree with the checksums in ``official.sha256``.
* ``offline``: the same homes' load, PV, weather and carbon intensity from a PyPI wheel, a time-of-use tariff,
  and charging sessions and appliance cycles from our own seeded generator (``generator.py``). For machines
  that cannot reach GitHub.

``docs/dataset.md`` describes files, columns, units and the differences between the editions.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from citylearn.citylearn import CityLearnEnv

NAME = "citylearn_challenge_2022_phase_all_plus_evs"
EDITIONS = ("auto", "official", "offline")
CHARGER_COLUMNS = (
    "electric_vehicle_charger_state",
    "electric_vehicle_id",
    "electric_vehicle_departure_time",
    "electric_vehicle_required_soc_departure",
    "electric_vehicle_estimated_arrival_time",
    "electric_vehicle_estimated_soc_arrival",
)
_LOGGER = logging.getLogger(__name__)


class DatasetError(ValueError):
    """Data altered, incomplete, of another format, or asked for by a wrong name; one line says what to do."""


class DatasetNotFoundError(DatasetError, FileNotFoundError):
    """The data are nowhere to be had; one line says where they were looked for."""


@dataclass(frozen=True)
class Dataset:
    """A verified community on disk.

    Attributes:
        edition: ``official`` or ``offline``; recorded with every result.
        schema: the ``schema.json`` that CityLearn loads; its series lie beside it.
        checksums: file name -> sha256, as verified (``schema.json`` without its ``root_directory``).
    """

    edition: str
    schema: Path
    checksums: dict[str, str]


def find(edition: str = "auto", path: Path | str | None = None) -> Dataset:
    """Find and verify a community.

    Args:
        edition: ``official``, ``offline``, or ``auto``: the official one, or, where it cannot be had, one
            warning that says why and the offline one.
        path: folder of the official data set, or the folder it lies in. Goes before ``CITYLEARN_DATASETS``.

    Returns:
        The verified data set. Nothing is copied; only a download or the offline generator writes, to a cache
        folder.

    Raises:
        DatasetError: unknown edition; a file at an explicit path is missing, altered or in another format.
        DatasetNotFoundError: the data cannot be had; the line lists what was tried.

    Source: ``citylearn.data.DataSet`` for cache and download.
    """
    if edition not in EDITIONS:
        raise DatasetError(f"unknown edition {edition!r}: use one of {', '.join(EDITIONS)}")
    if edition == "offline":
        from thesis_lib.community import generator

        return Dataset("offline", *generator.find())
    try:
        return _official(path)
    except DatasetNotFoundError as reason:
        if edition == "official":
            raise
        _LOGGER.warning("official edition not available, going on with the offline one: %s", reason)
        return find("offline")


def load(dataset: Dataset, *, start: int = 0, end: int | None = None, **citylearn: Any) -> CityLearnEnv:
    """Load a community into CityLearn, one agent per home, without touching the network.

    Args:
        dataset: what :func:`find` returned.
        start: first row, 0 to 8758 (row r is the hour that starts r hours after 2024-08-01 00:00).
        end: last row, included, as CityLearn counts; ``None`` for the last of the data (8759). An episode of
            rows start..end has end - start actions.
        citylearn: further arguments of ``CityLearnEnv``, such as ``random_seed``.

    Returns:
        The environment, not yet reset; 17 homes, observations and actions as lists per home.

    Raises:
        DatasetError: a window outside the data, or an empty or non-numeric value in a series.

    Source: ``citylearn.citylearn.CityLearnEnv``.
    """
    schema = json.loads(dataset.schema.read_text(encoding="utf-8"))
    rows = check_series(dataset.schema)
    last = rows - 1 if end is None else end
    if not 0 <= start < last < rows:
        raise DatasetError(
            f"rows {start} to {last} are not a window of this data set: 0 <= start < end <= {rows - 1}"
        )

    from citylearn.citylearn import CityLearnEnv

    arguments = {
        "central_agent": False,
        "offline": True,
        "root_directory": str(dataset.schema.parent),
        "simulation_start_time_step": start,
        "simulation_end_time_step": last,
        **citylearn,
    }
    return CityLearnEnv(schema, **arguments)


def check_series(schema: Path) -> int:
    """Check that load, PV, weather, price and carbon intensity are numbers at every row, and equally long.

    Returns:
        The number of rows, 8760 in both editions.

    Raises:
        DatasetError: naming file, column and row (0-based, header not counted).
    """
    buildings = json.loads(schema.read_text(encoding="utf-8"))["buildings"].values()
    wanted: dict[str, list[str] | None] = {
        b["energy_simulation"]: ["non_shiftable_load", "solar_generation"] for b in buildings
    }
    wanted.update({b[kind]: None for b in buildings for kind in ("weather", "carbon_intensity", "pricing")})
    rows = None
    for name, columns in wanted.items():
        try:
            table = pd.read_csv(schema.parent / name, usecols=columns)
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{schema.parent / name} cannot be read ({_line(error)}): restore the file"
            ) from None
        values = table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            row, column = bad[0]
            raise DatasetError(
                f"{schema.parent / name}: column {table.columns[column]} is not a number at row {row}; "
                "restore the file"
            )
        if rows is not None and len(table) != rows:
            raise DatasetError(
                f"{schema.parent / name} has {len(table)} rows, the files before it {rows}; restore the file"
            )
        rows = len(table)
    if rows is None:
        raise DatasetError(f"{schema} has no buildings; restore the file")
    return rows


def verify(folder: Path, expected: dict[str, str]) -> dict[str, str]:
    """Compare the files of a folder with their checksums.

    Args:
        folder: holds ``schema.json`` and the series.
        expected: file name -> sha256.

    Returns:
        ``expected``, now known to hold.

    Raises:
        DatasetError: one line naming the first file that is missing or altered, the format if it is another
            one, or the row of a value that is not a number.
    """
    schema = folder / "schema.json"
    wrong = [
        name
        for name in sorted(expected)
        if not (folder / name).is_file() or checksum(folder / name) != expected[name]
    ]
    if not wrong:
        return expected
    if schema.is_file():
        _check_format(schema)
    for name in wrong:
        if not (folder / name).is_file():
            raise DatasetError(
                f"{folder / name} is missing; restore it, or delete the folder to have it fetched anew"
            )
    if "schema.json" not in wrong:
        check_series(schema)
    raise DatasetError(
        f"{folder / wrong[0]} is not the published file (sha256 {checksum(folder / wrong[0])[:12]}, expected "
        f"{expected[wrong[0]][:12]}); restore it, or delete the folder to have it fetched anew"
    )


def checksum(file: Path) -> str:
    """sha256 of a file; of ``schema.json`` without its ``root_directory``, which only says where it lies."""
    if file.name != "schema.json":
        return hashlib.sha256(file.read_bytes()).hexdigest()
    try:
        schema = json.loads(file.read_text(encoding="utf-8"))
        schema.pop("root_directory", None)
    except (ValueError, AttributeError):
        raise DatasetError(f"{file} is not a CityLearn schema; restore the file") from None
    return hashlib.sha256(json.dumps(schema, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_checksums(file: Path) -> dict[str, str]:
    """Read a ``sha256sum`` table: file name -> sha256."""
    return {
        name: digest
        for digest, name in (line.split() for line in file.read_text(encoding="utf-8").splitlines())
    }


def _official(path: Path | str | None) -> Dataset:
    expected = read_checksums(Path(__file__).with_name("official.sha256"))
    tried = []
    # What somebody points at must be right; what CityLearn keeps or fetches may be of another release.
    for origin, given in (("path", path), ("CITYLEARN_DATASETS", os.environ.get("CITYLEARN_DATASETS"))):
        if given:
            for folder in (Path(given).expanduser(), Path(given).expanduser() / NAME):
                if (folder / "schema.json").is_file():
                    return Dataset(
                        "official", folder.resolve() / "schema.json", verify(folder.resolve(), expected)
                    )
            tried.append(f"no {NAME}/schema.json in {origin} {given}")
            if origin == "path":
                raise DatasetError(f"{tried[-1]}: give the data set's folder, or the folder it lies in")
    for folder_of in (_cached, _downloaded):
        try:
            folder = folder_of()
        except DatasetNotFoundError as error:
            tried.append(_line(error))
            continue
        try:
            return Dataset("official", folder / "schema.json", verify(folder, expected))
        except DatasetError as error:
            tried.append(_line(error))
            break  # CityLearn does not download over a copy that it has
    raise DatasetNotFoundError("; ".join(tried) + f"; set CITYLEARN_DATASETS to the folder that holds {NAME}")


def _cached() -> Path:
    """The folder in CityLearn's own cache, found without creating it as ``DataSet.cache_directory`` does."""
    from citylearn.data import DataSet
    from platformdirs import user_cache_dir

    cache = user_cache_dir(DataSet.REPOSITORY_NAME.lower(), DataSet.GITHUB_ACCOUNT, DataSet.REPOSITORY_TAG)
    folder = Path(cache) / "datasets" / NAME
    if not (folder / "schema.json").is_file():
        raise DatasetNotFoundError("not in CityLearn's cache")
    return folder


def _downloaded() -> Path:
    """CityLearn's own download into its cache, with short timeouts and without its retries.

    A download that broke off is found out by its checksums, and by its name in the error.
    """
    import citylearn.data
    import requests

    class Quick(citylearn.data.DataSet):
        @staticmethod
        def get_requests_session(**retries: Any) -> Any:
            session = citylearn.data.DataSet.get_requests_session(
                **{"total": 0, "backoff_factor": 0, **retries}
            )
            session.request = functools.partial(session.request, timeout=(4, 30))  # connect, read (s)
            return session

    try:
        return Path(Quick(logging_level=logging.WARNING).get_dataset(NAME)).parent
    except requests.RequestException as error:
        raise DatasetNotFoundError(
            f"CityLearn's download failed (GitHub out of reach: {type(error).__name__})"
        ) from None
    except Exception as error:  # CityLearn raises a bare Exception for any other answer
        raise DatasetNotFoundError(f"CityLearn's download failed ({_line(error)})") from None


def _check_format(schema: Path) -> None:
    """Recognise the other formats published under the same name.

    Raises:
        DatasetError: saying which format it is and what it lacks.
    """
    for name, building in json.loads(schema.read_text(encoding="utf-8")).get("buildings", {}).items():
        for charger in (building.get("chargers") or {}).values():
            file = schema.parent / charger.get("charger_simulation", "")
            if file.is_file():
                with file.open(encoding="utf-8") as lines:
                    columns = lines.readline().strip().split(",")
                missing = [column for column in CHARGER_COLUMNS if column not in columns]
                if missing:
                    raise DatasetError(
                        f"{file} is of the older format with {len(columns)}-column chargers, without "
                        f"{', '.join(missing)}; get the CityLearn 3 edition"
                    )
        if "washing_machines" in building:
            raise DatasetError(
                f"{schema} is of the older `washing_machines` format ({name}), without "
                "`deferrable_appliances` and their cycle files; get the CityLearn 3 edition"
            )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
