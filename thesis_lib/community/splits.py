"""Which rows of the year are for training, which for choosing, which for judging.

Row r is the hour that starts r hours after 2024-08-01 00:00. In each calendar month the last seven days
are test, the seven before them validation, the rest train. (The files' own month and hour labels run one
hour late, so they are never used to split.)
"""

from __future__ import annotations

import calendar
from datetime import date, timedelta

import numpy as np
import pandas as pd

FIRST_DAY = date(2024, 8, 1)
HOURS_PER_DAY = 24
YEAR_ROWS = 8760
DAYS_HELD_OUT = 7  # of each month, for test, and as many before them for validation
SPLITS = ("train", "validation", "test")


def split_of_rows(rows: int = YEAR_ROWS) -> np.ndarray:
    """Name the split of each row.

    Args:
        rows: how many rows, counted from 2024-08-01 00:00; a year has 8760.

    Returns:
        Array (rows,) of "train", "validation" or "test".

    Raises:
        ValueError: if rows is not positive.

    Source:
        docs/protocol.md.
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, not {rows}.")
    days = [FIRST_DAY + timedelta(days=i) for i in range(-(-rows // HOURS_PER_DAY))]
    return np.repeat([_split_of_day(day) for day in days], HOURS_PER_DAY)[:rows]


def blocks(split: str, rows: int = YEAR_ROWS) -> list[tuple[int, int]]:
    """List the contiguous row ranges of one split.

    Args:
        split: "train", "validation" or "test".
        rows: how many rows, counted from 2024-08-01 00:00.

    Returns:
        Half-open ranges [(start, stop), ...] in order of time, one a month.

    Raises:
        ValueError: if the split has another name.

    Source:
        docs/protocol.md.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}.")
    inside = np.concatenate([[False], split_of_rows(rows) == split, [False]])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def table() -> pd.DataFrame:
    """Tabulate the splits of the year, for docs/protocol.md.

    Returns:
        Data frame with one line a month: month, and for each split "first day - last day (rows start-stop)"
        with stop excluded.

    Raises:
        Nothing.

    Source:
        `blocks`.
    """
    lines: dict[str, dict[str, str]] = {}
    for split in SPLITS:
        for start, stop in blocks(split):
            first, last = _day_of_row(start), _day_of_row(stop - 1)
            line = lines.setdefault(f"{first:%Y-%m}", {})
            line[split] = f"{first.day}-{last.day} (rows {start}-{stop})"
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("month").reset_index()


def _day_of_row(row: int) -> date:
    return FIRST_DAY + timedelta(days=row // HOURS_PER_DAY)


def _split_of_day(day: date) -> str:
    days_left = calendar.monthrange(day.year, day.month)[1] - day.day
    if days_left < DAYS_HELD_OUT:
        return "test"
    return "validation" if days_left < 2 * DAYS_HELD_OUT else "train"
