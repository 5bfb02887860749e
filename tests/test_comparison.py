"""One controller against the others: paired by seed and week, corrected together, on rows of known differences."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest

from thesis_lib.analysis import comparison, evaluation, figures, labels, statistics, tables

pytestmark = pytest.mark.usefixtures("english_page")

WHERE = {"split": "test", "engine": "citylearn", "edition": "official"}
OURS = comparison.OURS
LUCK = np.array([0.02, -0.01, 0.0, 0.015, -0.02])  # of each seed, shared by all learners
NOISE = np.random.default_rng(0).normal(0, 0.002, 5)
LEVELS = {OURS: 0.70, ("marlisa", "default"): 0.85, ("independent_td3", "default"): 0.7005}
FIXED = {("business_as_usual", "default"): 1.0, ("rule", "default"): 0.87, ("optimum", "bound"): 0.58}


def lines(pair: tuple[str, str], seed: int, composite: float, met: float = 0.997) -> list[tuple]:
    values = {"composite_vs_bau": composite, "ev_departures_met": met, "appliance_cycles_served": 1.0}
    values |= {term: 100 * (1 + place / 10) * composite for place, term in enumerate(tables.TERMS)}
    return [
        ("official", *pair, seed, split, kpi, value, "1", "citylearn")
        for split in ("validation", "test")
        for kpi, value in values.items()
    ]


@pytest.fixture
def kpis() -> pd.DataFrame:
    found = []
    for place, (pair, level) in enumerate(LEVELS.items()):
        for seed in range(5):
            found += lines(pair, seed, level + LUCK[seed] + (NOISE[seed] if place else 0))
    for pair, level in FIXED.items():
        found += lines(pair, 0, level)
    for seed in range(3):
        found += lines(("random", "default"), seed, 0.5, met=0.4)
    return pd.DataFrame(found, columns=evaluation.COLUMNS)


@pytest.fixture
def weeks() -> pd.DataFrame:
    random = np.random.default_rng(1)
    everyone = LEVELS | FIXED | {("random", "default"): 0.5}
    return pd.DataFrame(
        [
            (*pair, seed, week, level + week / 50 + random.normal(0, 0.001))
            for pair, level in everyone.items()
            for seed in range(5 if pair in LEVELS else 1)
            for week in range(12)
        ],
        columns=[*tables.KEY, "seed", "week", "value"],
    )


def others(kpis: pd.DataFrame) -> list[tuple[str, str]]:
    return [pair for pair in tables.keys(tables.select(kpis, **WHERE)) if pair != OURS]


def test_differences_are_ours_minus_theirs_and_paired(kpis: pd.DataFrame, weeks: pd.DataFrame) -> None:
    table = comparison.compare(kpis, OURS, others(kpis), weeks, **WHERE).set_index("controller")
    marlisa = table.loc["marlisa"]
    assert marlisa["difference"] == pytest.approx(-0.15 - NOISE.mean()) and marlisa["seeds"] == 5
    assert marlisa["difference_half"] == pytest.approx(statistics.half_width(NOISE))  # the luck cancels
    assert marlisa["p_holm"] < 0.001 and marlisa["improvement"] == 1
    assert table.loc["independent_td3", "p_holm"] > 0.05
    assert marlisa["difference_weeks"] == pytest.approx(-0.15, abs=0.002) and marlisa["p_weeks"] < 1e-6
    assert table["p_holm"].to_numpy() == pytest.approx(statistics.holm(table["p"]))
    assert not table.loc["random", "gate"] and table.loc["rule", "gate"]
    assert list(table["gate"]) == sorted(table["gate"], reverse=True)  # the printed rule sets apart those that fail


def test_a_controller_without_seeds_is_compared_with_every_seed_of_ours(kpis: pd.DataFrame) -> None:
    rule = comparison.compare(kpis, OURS, [("rule", "default")], **WHERE).iloc[0]
    own = 0.70 + LUCK
    assert rule["seeds"] == 5 and rule["difference"] == pytest.approx(own.mean() - 0.87)
    assert rule["difference_half"] == pytest.approx(statistics.half_width(own))
    assert np.isnan(rule["value_half"])


def test_one_seed_in_common_is_compared_but_not_tested(kpis: pd.DataFrame) -> None:
    few = kpis[~((kpis["controller"] == "marlisa") & (kpis["seed"] > 0))]
    line = comparison.compare(few, OURS, [("marlisa", "default")], **WHERE).iloc[0]
    assert line["seeds"] == 1 and np.isnan(line["p_holm"])
    assert "a single seed cannot test" in comparison.sentences(pd.DataFrame([line]), OURS)[0]
    twin = kpis[kpis["controller"] == OURS[0]].assign(controller="marlisa", variant="default")
    same = pd.concat([kpis[kpis["controller"] != "marlisa"], twin])
    told = comparison.sentences(comparison.compare(same, OURS, [("marlisa", "default")], **WHERE), OURS)
    assert "0.000 ± 0.000 of BAU's, none at all" in told[0]  # five seeds, and none of them differs


def test_the_comparator_is_named_truthfully(kpis: pd.DataFrame) -> None:
    assert comparison.comparator(kpis, **WHERE) == ("marlisa", "default")
    without = kpis[kpis["controller"] != "marlisa"]
    # neither the random one, which fails the gate, nor the bound, which knows the future
    assert comparison.comparator(without, **WHERE) == ("independent_td3", "default")
    alone = kpis[kpis["controller"].isin([tables.BAU, OURS[0]])]
    assert comparison.comparator(alone, **WHERE) == (tables.BAU, "default")
    assert "marlisa" in comparison.missing(without) and "rule" not in comparison.missing(without)


def test_ours_is_the_headline_or_what_stands_for_it(kpis: pd.DataFrame) -> None:
    assert comparison.ours(kpis) == OURS
    local = kpis.assign(variant=kpis["variant"].replace({"announce": "none"}))
    assert comparison.ours(local) == (OURS[0], "none")
    assert comparison.ours(kpis[kpis["controller"] == "rule"]) is None


def test_terms_are_over_business_as_usual(kpis: pd.DataFrame) -> None:
    names = (tables.COMPOSITE, *tables.TERMS)
    table = comparison.compare(kpis, OURS, [("rule", "default")], names=names, **WHERE)
    assert list(table["kpi"]) == list(names)
    assert table["difference"].to_numpy() == pytest.approx(np.full(6, (0.70 + LUCK).mean() - 0.87))
    assert "kpi" in comparison.printed(table) and "p" not in comparison.printed(table)


def test_sentences_say_who_is_better_and_who_fails(kpis: pd.DataFrame) -> None:
    table = comparison.compare(kpis, OURS, others(kpis), **WHERE)
    texts = {text.split("*")[1]: text for text in comparison.sentences(table, OURS)}
    assert "better (Holm's p" in texts["MARLISA"] and "worse (Holm's p" in texts["Random"]
    assert "fails the service gate" in texts["Random"] and "gate" not in texts["MARLISA"]
    assert "do not tell from none" in texts["Independent TD3"]


@pytest.mark.parametrize("language", labels.LANGUAGES)
def test_the_figure_shows_every_seed_and_week(kpis: pd.DataFrame, weeks: pd.DataFrame, language: str) -> None:
    labels.use(language)
    table = comparison.compare(kpis, OURS, others(kpis), weeks, **WHERE)
    by_seed, by_week = comparison.differences(kpis, OURS, others(kpis), weeks, **WHERE)
    arguments = (by_seed, by_week, table)
    fig = figures.FIGURES["paired_differences"].draw(*arguments, ours=OURS, **WHERE)
    left, right = fig.axes
    for ax, points in ((left, by_seed), (right, by_week)):
        shown = np.concatenate([line.get_xdata() for line in ax.get_lines() if line.get_markersize() == 2.6])
        assert sorted(shown) == pytest.approx(sorted(points["difference"]))
    tight, (width, height) = fig.get_tightbbox(), fig.get_size_inches()
    assert tight.x0 > -0.02 and tight.x1 < width + 0.02 and tight.y0 > -0.02 and tight.y1 < height + 0.02
    text = figures.caption("paired_differences", *arguments, ours=OURS, **WHERE)
    assert ("−0,299" if language == "es" else "−0.299") in text and "†" in text and "nan" not in text
    assert (
        labels.controller("independent_td3") in text and "MARLISA" not in text
    )  # the best rival; neither best nor worst
    told = table.assign(p_weeks=np.where(table["controller"] == "marlisa", 0.7, table["p_weeks"]))
    doubtful = figures.caption("paired_differences", by_seed, by_week, told, ours=OURS, **WHERE)
    assert f"MARLISA (p {labels.number(0.7, 3)})" in doubtful  # seeds tell it apart, weeks do not
    data = figures.FIGURES["paired_differences"].data(*arguments, ours=OURS, **WHERE)
    assert len(data) == len(by_seed) + len(by_week)


def test_a_caption_names_ours_the_best_rival_the_best_and_the_worst(kpis: pd.DataFrame) -> None:
    values = tables.select(kpis[kpis["kpi"] == tables.COMPOSITE], **WHERE).groupby(tables.KEY)["value"].mean()
    named = comparison.named(values, failing=[("random", "default")])
    assert named == [("business_as_usual", "default"), ("independent_td3", "default"), OURS, ("optimum", "bound")]
    assert comparison.named(values[[("rule", "default")]]) == [("rule", "default")]


def test_the_headline_figure_does_not_take_a_bound_for_a_competitor(kpis: pd.DataFrame) -> None:
    ahead = (kpis["controller"] == "independent_td3") & (kpis["kpi"] == tables.COMPOSITE)
    better = kpis.assign(value=kpis["value"].mask(ahead, 0.65))  # the optimum, 0.58, passes the gate and is drawn
    text = figures.caption("kpi_bars", better, **WHERE)
    assert "do not know the future is that of Independent TD3: 0.650" in text
    assert "That of Cooperative MADDPG (announced) is 0.701" in text and "Optimum" not in text


def test_our_own_line_stands_above_those_we_are_compared_with(kpis: pd.DataFrame) -> None:
    line = comparison.level(kpis, OURS, **WHERE).iloc[0]
    assert line["iqm_low"] <= line["iqm"] <= line["iqm_high"] and line["value"] == pytest.approx((0.70 + LUCK).mean())
    both = pd.concat(
        [
            comparison.level(kpis, OURS, **WHERE),
            comparison.printed(table := comparison.compare(kpis, OURS, others(kpis), **WHERE)),
        ],
        ignore_index=True,
    )
    shown = tables.printed(both)
    assert len(shown) == len(table) + 1 and shown.iloc[0]["Difference"] == "–"


def test_the_bound_stands_in_the_table_without_service_rows(kpis: pd.DataFrame) -> None:
    bound = (kpis["controller"] == "optimum") & kpis["kpi"].isin(tables.SERVICE)
    elsewhere = kpis[~bound].assign(
        engine=lambda frame: np.where(frame["controller"] == "optimum", "model", frame["engine"])
    )
    spent = pd.DataFrame([["optimum", "bound", np.nan, 6.3]], columns=[*tables.KEY, *tables.COSTING])
    table = tables.main(elsewhere, spent, **WHERE)
    assert table.set_index("controller").loc["optimum", "year_minutes"] == 6.3
    apart = tables.bounds(elsewhere, engine=WHERE["engine"], edition=WHERE["edition"]).set_index("controller")
    own = table.set_index("controller").loc["cooperative_maddpg", tables.COMPOSITE]
    assert apart.loc["optimum", "above_test"] == 0
    assert apart.loc["cooperative_maddpg", "above_test"] == pytest.approx(own - 0.58)
    line = table.set_index("controller").loc["optimum"]
    assert line["gate"] and line[tables.COMPOSITE] == pytest.approx(0.58) and np.isnan(line["ev_departures_met"])
    assert list(table["controller"])[-1] == "random"  # the only one that fails
    acting = tables.select(elsewhere, **WHERE)
    lost = acting[~((acting["controller"] == "rule") & acting["kpi"].isin(tables.SERVICE))]
    with pytest.raises(KeyError):
        tables.gate(lost)
