"""The comparison with BenchMARL: what is printed follows from the curves that its run left."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from scipy import stats

from thesis_lib import paths

FOLDER = paths.results("simple_spread")


@pytest.fixture(scope="module")
def curves() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "curves.csv")


def test_every_seed_has_its_whole_curve(curves: pd.DataFrame) -> None:
    settings = json.loads((FOLDER / "run.json").read_text(encoding="utf-8"))["settings"]
    asked = list(range(settings["evaluate_every"], settings["frames"] + 1, settings["evaluate_every"]))
    learned = curves[curves.learner != "random actions"]
    assert set(learned.learner) == {"this repository", "BenchMARL"}
    for _, runs in learned.groupby("learner"):
        assert sorted(runs.seed.unique()) == [0, 1, 2]
        for _, run in runs.groupby("seed"):
            assert run.frames.tolist() == asked


def test_the_table_follows_from_the_curves(curves: pd.DataFrame) -> None:
    for row in pd.read_csv(FOLDER / "table.csv").itertuples():
        last = curves[(curves.learner == row.learner) & (curves.frames == row.frames)].mean_return
        low, high = stats.t.interval(0.95, len(last) - 1, last.mean(), stats.sem(last))
        assert (row.mean_return, row.low, row.high) == pytest.approx((last.mean(), low, high), abs=0.006)


def test_the_page_says_what_the_table_says() -> None:
    page = (paths.ROOT / "docs" / "simple_spread.md").read_text(encoding="utf-8")
    for row in pd.read_csv(FOLDER / "table.csv").itertuples():
        line = f"| {row.learner} | {row.seeds} | {row.mean_return:.2f} | {row.low:.2f} to {row.high:.2f} |"
        assert line in page, f"docs/simple_spread.md lacks the row: {line}"
