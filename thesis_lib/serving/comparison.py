"""What controllers did in the same hours, from the files their evaluation left (see ``analysis/evaluation.py``)."""

from __future__ import annotations

import csv
import functools
import gzip
import io
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ENGINE = "citylearn"
# For each place on the dashboard, the controllers that may fill it: the first that has rows does, and is named.
ROLES = {
    "no_control": ("charge_on_arrival",),
    "comparator": ("marlisa", "mpc_forecast", "tuned_rule", "rule", "business_as_usual"),
    "maddpg": ("cooperative_maddpg",),
}
VARIANTS = ("default", "broadcast", "announce", "none")


class ComparisonError(ValueError):
    """There is nothing to compare with; its text is one line."""


def read(results: Path, edition: str, start: int, hours: int) -> dict[str, Any]:
    """The district's net consumption, and each home's controlled flows, of one run a role.

    Args:
        results: of a profile.
        edition: "official" or "offline".
        start, hours: rows.

    Returns:
        ``start``, ``hours``, ``edition`` and ``runs``: role, controller, variant, engine, ``net`` (kWh, hours) and
        ``homes``: controlled flows of each home (kWh, hours), or null where the run left none. A role without a run
        is left out.

    Raises:
        ComparisonError: no run of this edition has these hours, or a run's files are not whole.
    """
    runs = []
    for role, names in ROLES.items():
        for folder in (
            results / "runs" / edition / name / variant / "seed_0" for name in names for variant in VARIANTS
        ):
            try:
                if not (folder / "run.json").is_file():
                    continue
                net, flows = _hourly(folder / "hourly.csv.gz", _age(folder)), folder / "flows.csv.gz"
                homes = _controlled(flows, _age(folder)) if flows.is_file() else None
            except (OSError, EOFError, LookupError, ValueError, csv.Error, zlib.error) as error:
                raise ComparisonError(
                    f"{'/'.join(folder.parts[-4:])} cannot be read ({error}): evaluate it again"
                ) from None
            runs.append(
                {
                    "role": role,
                    "controller": folder.parts[-3],
                    "variant": folder.parts[-2],
                    "engine": ENGINE,
                    "net": net[start : start + hours],
                    "homes": homes and {home: values[start : start + hours] for home, values in homes.items()},
                }
            )
            break
    if not any(run["net"] for run in runs):
        raise ComparisonError(f"no evaluated run of the {edition} edition in {results.name} has these hours")
    return {"start": start, "hours": hours, "edition": edition, "runs": runs}


def _age(folder: Path) -> int:
    """Part of the caches' keys: a run that was made again is read again."""
    return (folder / "run.json").stat().st_mtime_ns


def _lines(file: Path) -> Iterator[dict[str, str]]:
    rows = csv.reader(io.StringIO(gzip.decompress(file.read_bytes()).decode("utf-8")))
    names = next(rows, None)
    if names is None:
        raise ValueError(f"{file.name} is empty")
    return (dict(zip(names, row, strict=True)) for row in rows)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number")
    return value


@functools.lru_cache(maxsize=8)
def _hourly(file: Path, age: int) -> list[float]:
    return [_number(line["net"]) for line in _lines(file) if line["engine"] == ENGINE]


@functools.lru_cache(maxsize=8)
def _controlled(file: Path, age: int) -> dict[str, list[float]]:
    """Battery, chargers and appliances of each home together, kWh; whatever lies behind no meter of its own."""
    found: dict[str, list[float]] = {}
    for line in _lines(file):
        sums: dict[str, float] = {}
        for name, value in line.items():
            kind, _, device = name.partition("/")
            if kind in ("battery", "charger", "appliance"):
                # charger_15_2 stands in Building_15, deferrable_appliance_1 in Building_1
                number = device.split("_")[1] if kind != "appliance" else device.rsplit("_", 1)[1]
                home = f"Building_{number}"
                sums[home] = sums.get(home, 0.0) + _number(value)
        for home, total in sums.items():
            found.setdefault(home, []).append(round(total, 3))
    return found
