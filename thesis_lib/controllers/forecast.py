"""Forecasts of load, PV and carbon intensity, learned on train rows only, from what has been observed so far.

Each series is its usual day plus what is unusual about today: the mean of the train days of the month at that time of
day, and a ridge regression of the deviations of the next hours on those of the last. Deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import Ridge

from thesis_lib.community.model import Community
from thesis_lib.community.splits import blocks
from thesis_lib.controllers.linear import Array

ALPHA = 1.0  # ridge penalty, in squared units of the series


@dataclass(frozen=True)
class Forecaster:
    """Forecasts n series for the hours after the present one; made by `fit`."""

    usual: Array  # (months, steps a day, n) mean of the train rows of a month
    first_rows: Array  # (months,) where each month begins
    weights: Array  # (n, hours ahead, past) of the deviations, the latest first
    constant: Array  # (n, hours ahead)

    @property
    def past(self) -> int:
        """How many rows back it looks, the present one included."""
        return int(self.weights.shape[2])

    def usual_at(self, rows: Array) -> Array:
        """The usual values (..., n) at rows (...)."""
        month = np.searchsorted(self.first_rows, rows, side="right") - 1
        return self.usual[np.clip(month, 0, None), rows % self.usual.shape[1]]

    def __call__(self, row: int, past: Array, hours: int) -> Array:
        """Forecast the hours after ``row``.

        Args:
            row: the present one.
            past: (m, n) what was observed up to it, the latest first; what is missing counts as usual.
            hours: how many, at most those it was fitted for.

        Returns:
            (hours, n), none below 0.
        """
        seen = np.zeros((self.past, past.shape[1]))
        m = min(len(past), self.past)
        seen[:m] = past[:m] - self.usual_at(row - np.arange(m))
        unusual = self.constant[:, :hours] + np.einsum("nkl,ln->nk", self.weights[:, :hours], seen)
        return np.maximum(self.usual_at(row + 1 + np.arange(hours)) + unusual.T, 0.0)


def fit(series: Array, steps_per_day: int, past: int, hours: int) -> Forecaster:
    """Learn to forecast from the train rows of some series.

    Args:
        series: (T, n); only train rows are read.
        steps_per_day: rows a day.
        past: rows to look back, the present one included.
        hours: rows to look ahead.

    Returns:
        The forecaster.

    Raises:
        ValueError: no train block holds past + hours rows.
    """
    train = blocks("train", len(series))
    present = np.concatenate([np.arange(begin + past - 1, end - hours) for begin, end in train])
    if not len(present):
        raise ValueError(f"no train block holds {past + hours} rows: choose a shorter horizon")
    whole = [(begin, end) for begin, end in train if end - begin >= steps_per_day]
    step = np.arange(len(series)) % steps_per_day

    def mean_day(begin: int, end: int) -> Array:
        rows = np.arange(begin, end)
        return np.stack([series[rows[step[rows] == s]].mean(0) for s in range(steps_per_day)])

    usual, first_rows = np.stack([mean_day(*span) for span in whole]), np.array([begin for begin, _ in whole])
    made = Forecaster(usual, first_rows, np.zeros((0, 0, 0)), np.zeros((0, 0)))
    deviation = np.full_like(series, np.nan)
    for begin, end in train:
        deviation[begin:end] = series[begin:end] - made.usual_at(np.arange(begin, end))
    weights, constant = [], []
    for values in deviation.T:
        before = np.stack([values[present - back] for back in range(past)], 1)
        after = np.stack([values[present + ahead] for ahead in range(1, hours + 1)], 1)
        model = Ridge(alpha=ALPHA).fit(before, after)
        weights.append(model.coef_)
        constant.append(model.intercept_)
    return Forecaster(made.usual, made.first_rows, np.stack(weights), np.stack(constant))


def forecasters(community: Community, past: int, hours: int) -> dict[str, Forecaster]:
    """Fit one for each of the homes' load and PV (n = H, kWh) and the carbon intensity (n = 1, kg/kWh).

    Args:
        community: whose train rows are read.
        past, hours: as of `fit`.

    Raises:
        ValueError: as `fit`.
    """
    c = community
    rows = c.read(torch.arange(c.rows, device=c.device))
    series = {"load": rows.load, "pv": rows.pv, "carbon": c.carbon(rows)[:, :1]}
    return {name: fit(s.double().cpu().numpy(), c.steps_per_day, past, hours) for name, s in series.items()}
