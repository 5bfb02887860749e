"""The comparison with BenchMARL: what is printed follows from the curves that its run left."""

from __future__ import annotations

import ast
import json
from typing import Any

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


def test_the_page_says_the_scripts_verdict() -> None:
    """The script's packages are not here: its function is taken out of it."""
    tree = ast.parse((paths.ROOT / "benchmarks" / "simple_spread" / "compare.py").read_text(encoding="utf-8"))
    wanted = ("PAIR", "verdict")
    named = [part for part in tree.body if getattr(part, "name", None) in wanted or _target(part) in wanted]
    script: dict[str, Any] = {"pd": pd}
    exec(compile(ast.Module(named, []), "compare.py", "exec"), script)
    rows = pd.read_csv(FOLDER / "table.csv")
    assert script["verdict"](rows).startswith("The means lie within each other's intervals, which overlap;")
    page = (paths.ROOT / "docs" / "simple_spread.md").read_text(encoding="utf-8")
    assert "Each mean lies within the other's interval." in page
    rows.loc[rows.learner == "BenchMARL", "mean_return"] += 2  # another table, another verdict
    assert script["verdict"](rows).startswith("The means lie not both within each other's intervals")


def _target(part: ast.stmt) -> str | None:
    return part.targets[0].id if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name) else None
