"""The committed tables and figures of the thesis hold what its rows say: `make thesis` writes them anew."""

from __future__ import annotations

import re

import matplotlib

matplotlib.use("Agg")

import pandas as pd
import pytest
import torch
from conftest import find, model

from thesis_lib import paths
from thesis_lib.analysis import (
    ablations,
    claims,
    comparison,
    evaluation,
    evidence,
    figures,
    labels,
    robustness,
    tables,
)
from thesis_lib.config import load_config

WHERE = {"split": "test", "engine": "citylearn", "edition": "official"}


@pytest.fixture(scope="module")
def kpis() -> pd.DataFrame:
    return evaluation.read_rows(paths.results("thesis") / "kpis.csv")


def same(written: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(written, expected.reset_index(drop=True), check_dtype=False, rtol=1e-9)


def test_the_main_table_is_of_these_rows(kpis: pd.DataFrame) -> None:
    spent = tables.costs("thesis", WHERE["edition"], WHERE["engine"])
    same(pd.read_csv(paths.tables("thesis") / "main.csv"), tables.main(kpis, spent, **WHERE))


def test_the_comparison_is_of_these_rows(kpis: pd.DataFrame) -> None:
    pairs = tables.keys(tables.select(kpis, **WHERE))
    weeks = comparison.weekly("thesis", pairs, engine=WHERE["engine"], edition=WHERE["edition"])
    table = comparison.compare(kpis, comparison.OURS, [p for p in pairs if p != comparison.OURS], weeks, **WHERE)
    written = pd.read_csv(paths.tables("thesis") / "comparison.csv")
    same(written[written["pairs"].notna()].reset_index(drop=True), comparison.printed(table))
    own = comparison.level(kpis, comparison.OURS, **WHERE)
    same(written.loc[written["pairs"].isna(), list(own)].reset_index(drop=True), own)


def test_the_headline_figure_is_of_these_rows(kpis: pd.DataFrame) -> None:
    drawn = figures.FIGURES["kpi_bars"].data(kpis, **WHERE)
    for name in ("kpi_bars", "comparison_kpis"):
        same(pd.read_csv(paths.figures("thesis") / f"{name}.csv"), drawn)


def test_what_it_costs_and_saves_is_of_these_rows(kpis: pd.DataFrame) -> None:
    rows = evidence.Rows.read("thesis", WHERE["edition"])
    expected = {
        "relative": tables.controllers(kpis, **WHERE, over_bau=True),
        "engines": tables.engines(kpis, split=WHERE["split"], edition=WHERE["edition"]),
        "costs": tables.costs("thesis", WHERE["edition"], WHERE["engine"]),
        "bounds": tables.bounds(kpis, engine=WHERE["engine"], edition=WHERE["edition"]),
        "impact": evidence.impact(rows, comparison.OURS),
    }
    for name, table in expected.items():
        same(pd.read_csv(paths.tables("thesis") / f"{name}.csv"), table)


def test_the_verdicts_are_of_these_rows() -> None:
    """Those of the ablations in what they say: times and commits change with each seed that is made again."""
    data = find("official")
    known = claims.Evidence(
        thesis=evidence.Rows.read("thesis", data.edition),
        ablations=evidence.Rows.read("ablations", data.edition, ("model", "citylearn")),
        data=data,
        community=model("official", torch.float32),
        settings_alone=load_config("thesis").train | {"coordination": "none"},
        seeds=len(load_config("thesis").seeds),
    )
    found, written = claims.plain(claims.judge(known)), pd.read_csv(paths.tables("thesis") / "claims.csv")
    assert len(written) == len(found) == 15
    own = ~found["source"].str.contains("results/ablations")
    assert own.sum() >= 9
    same(written[own].reset_index(drop=True), found[own].replace("", None))
    said = ["claim", "verdict", "value", "low", "high", "unit"]
    same(written[said], found[said].replace("", None))


def test_the_ablations_tables_are_of_their_rows() -> None:
    kpis = evaluation.gather("ablations")
    where = WHERE | {"engine": "model"}
    for name, family in ablations.FAMILIES.items():
        file = paths.tables("ablations") / f"ablation_{name}.csv"
        there = ablations.composites(kpis, (family.reference, *family.variants), **where)
        assert file.is_file() == (family.reference in there and len(there) > 1), name
        if file.is_file():
            written = pd.read_csv(file)
            table = ablations.printed(ablations.compare(kpis, family, **where))
            shared = [column for column in table if column in written and "weeks" not in column]
            assert "difference" in shared
            same(written[shared], table[shared])


def test_the_troubles_table_is_of_its_rows_and_undisturbed_is_the_reference() -> None:
    rows, where = robustness.read("ablations"), WHERE | {"engine": "model"}
    table = ablations.printed(ablations.compare(rows, robustness.FAMILY, **where))
    same(pd.read_csv(paths.tables("ablations") / "ablation_robustness.csv"), table)
    own = ablations.composites(evaluation.gather("ablations"), ["headline"], **where)["headline"]
    undisturbed = ablations.composites(rows, ["undisturbed"], **where)["undisturbed"]
    pd.testing.assert_series_equal(undisturbed, own, check_names=False, rtol=1e-9)


@pytest.mark.parametrize("language", labels.LANGUAGES)
def test_captions_say_what_is_drawn(language: str) -> None:
    folder = paths.figures("thesis") / language
    hourly = (
        "mean_day",
        "load_duration",
        "hard_week",
        "price_response",
        "ramping",
        "departure_margins",
        "home_heatmap",
    )
    with labels.using(language):
        for name in hourly:
            text = (folder / f"{name}.txt").read_text(encoding="utf-8")
            weeks = labels.t("weeks.year" if name == "departure_margins" else "weeks.test")
            of = (weeks[1:], labels.t("engine.citylearn"), labels.t("edition.official"))
            assert all(word in text for word in of), name
            one = name in ("load_duration", "hard_week", "departure_margins", "home_heatmap")
            assert re.search(r"(?:seed|semilla) 0" if one else r"(?:seeds|semillas) \(10\)", text), name


def test_the_margins_behind_the_figure_count_what_its_caption_counts() -> None:
    margins = pd.read_csv(paths.figures("thesis") / "departure_margins.csv")
    text = (paths.figures("thesis") / "en" / "departure_margins.txt").read_text(encoding="utf-8")
    for pair, own in margins.groupby(tables.KEY):
        missed = own.loc[own["margin"] < -5, "departures"].sum()
        with labels.using("en"):
            assert f"{labels.controller(*pair)} {missed} of " in text
