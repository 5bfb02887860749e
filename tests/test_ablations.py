"""The ablations' plan, tables, figures and sentences, from rows whose differences are known."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
import yaml

from thesis_lib import paths
from thesis_lib.analysis import ablations, evaluation, labels, page, statistics, tables

pytestmark = pytest.mark.usefixtures("english_page")

PLAN, THESIS = (
    yaml.safe_load((paths.configs() / f"{name}.yaml").read_text(encoding="utf-8")) for name in ("ablations", "thesis")
)
WHERE = {"split": "test", "engine": "model", "edition": "official"}
EFFECTS = {"headline": 0.0, "none": 0.03, "attention": -0.02, "mean_field": 0.001, "broadcast": -0.1}
FAMILY = ablations.FAMILIES["coordination"]
LUCK = np.array([0.05, -0.02, 0.01, 0.03, -0.06])  # of each seed, shared by all variants
NOISE = np.random.default_rng(0).normal(0, 0.004, (len(EFFECTS), 5))


def long(variant: str, seed: int, composite: float, met: float = 0.997, controller: str = ablations.CONTROLLER):
    values = {"composite_vs_bau": composite, "ev_departures_met": met, "appliance_cycles_served": 1.0}
    values |= {term: 100 * (1 + place / 10) * composite for place, term in enumerate(tables.TERMS)}
    return [
        ("official", controller, variant, seed, split, kpi, value, "1", "model")
        for split in ("test", "year")
        for kpi, value in values.items()
    ]


@pytest.fixture
def kpis() -> pd.DataFrame:
    lines = long("default", 0, 1.0, controller=tables.BAU)
    for place, (variant, effect) in enumerate(EFFECTS.items()):
        for seed in range(5):
            met = 0.9 if variant == "broadcast" and seed == 3 else 0.997
            lines += long(variant, seed, 0.8 + LUCK[seed] + effect + NOISE[place, seed], met)
    return pd.DataFrame(lines, columns=evaluation.COLUMNS)


# --- the plan ---


def test_every_variant_of_the_profile_answers_one_question_and_none_is_missing() -> None:
    asked = [name for family in ablations.FAMILIES.values() for name in family.variants]
    assert len(set(asked)) == len(asked)
    planned = {*asked, *ablations.SIZES, *(family.reference for family in ablations.FAMILIES.values())}
    assert planned == set(PLAN["variants"])
    assert next(iter(PLAN["variants"])) == "headline" and PLAN["variants"]["headline"] == {}
    for name in planned:
        assert f"variant.{name}" in labels.TEXT
    assert {f"family.{name}" for name in ablations.FAMILIES} <= set(labels.TEXT)


def test_the_plan_is_the_one_that_was_announced() -> None:
    variants, train = PLAN["variants"], PLAN["train"]
    assert PLAN["seeds"] == [0, 1, 2, 3, 4] and PLAN["engines"] == ["model"] and PLAN["edition"] == "official"
    for key, values in {
        "rollout_horizon": {0, 1, 6, 24, 48},
        "coordination": {"none", "broadcast", "announce", "attention", "mean_field"},
        "observation_noise": {0.0, 0.1, 0.3},
        "observation_missing": {0.0, 0.1, 0.3},
        "broadcast_delay": {0, 1},
        "shared_actors": {True, False},
        "reward": {"team", "individual"},
        "critics": {"central", "per_agent"},
        "guard": {True, False},
        "noise": {"gaussian", "ou"},
        "v2g": {True, False},
        "trained_homes": {0, 5, 10},
        "replicate": {0, 5, 10, 100, 1000},
    }.items():
        assert {train[key], *(own[key] for own in variants.values() if key in own)} == values, key
    for weights in (train["weights"], *(own["weights"] for own in variants.values() if "weights" in own)):
        assert list(weights) == tables.TERMS and sum(weights.values()) == pytest.approx(1)


def test_each_variant_differs_from_its_reference_in_one_thing_and_what_goes_with_it() -> None:
    budget = {"updates", "batch", "validate_every"}  # what takes about the same time
    for family in ablations.FAMILIES.values():
        base = PLAN["train"] | PLAN["variants"][family.reference]
        for name in set(family.variants):
            own = PLAN["train"] | PLAN["variants"][name]
            different = {key for key in own if own[key] != base[key]}
            if "actor_optimiser" in different:  # each has a rate and a decay of its own
                different -= {"actor_rate", "weight_decay"}
            if "reward" in different and base["rollout_horizon"] == 0:  # its mean changes, and the offset with it
                different -= {"reward_offset"}
            assert len(different - budget) == 1, name
            assert not different & budget or "rollout_horizon" in different, name
            assert own["minutes"] == base["minutes"]


def test_the_ablated_maddpg_is_the_thesis_own_but_for_its_budget() -> None:
    ours, theirs = PLAN["train"] | PLAN["variants"]["maddpg"], THESIS["train"] | THESIS["learners"]["maddpg"]
    assert {key for key in theirs if ours[key] != theirs[key]} == {"updates"}


# --- the tables ---


def test_a_table_says_what_was_put_in(kpis: pd.DataFrame) -> None:
    table = ablations.compare(kpis, FAMILY, **WHERE)
    assert list(table["variant"])[0] == "headline" and list(table["variant"])[-1] == "broadcast"
    assert "shared_actors" not in set(table["variant"])
    rows = table.set_index("variant")
    for place, (name, effect) in enumerate(EFFECTS.items()):
        expected = effect + NOISE[place].mean() - NOISE[0].mean()
        if name != "headline":
            assert rows.loc[name, "difference"] == pytest.approx(expected)
            assert rows.loc[name, "difference_half"] < 0.02 < rows.loc[name, "composite_vs_bau_half"]
    assert rows["gate"].to_dict() == {name: name != "broadcast" for name in EFFECTS}
    assert rows.loc["attention", "p_holm"] < 0.05 < rows.loc["mean_field", "p_holm"]
    assert rows["p_holm"].dropna().to_numpy() == pytest.approx(statistics.holm(rows["p"].dropna()))
    assert np.isnan(rows.loc["headline", "difference"]) and rows.loc["broadcast", "improvement"] > 0.9
    assert (rows["iqm_low"] <= rows["iqm"]).all() and (rows["iqm"] <= rows["iqm_high"]).all()


def test_other_rows_do_not_enter(kpis: pd.DataFrame) -> None:
    other = kpis.assign(value=9.0)
    mixed = pd.concat([kpis, other.assign(engine="citylearn"), other.assign(edition="offline")])
    mixed = pd.concat([mixed, other[other["controller"] != tables.BAU].assign(controller="independent_td3")])
    expected = ablations.compare(kpis, FAMILY, **WHERE)
    pd.testing.assert_frame_equal(ablations.compare(mixed, FAMILY, **WHERE), expected)


def test_weeks_are_tested_beside_seeds(kpis: pd.DataFrame) -> None:
    random = np.random.default_rng(1)
    weeks = pd.DataFrame(
        [
            (ablations.CONTROLLER, name, seed, week, 0.5 + week / 20 + effect + random.normal(0, 0.002))
            for name, effect in EFFECTS.items()
            for seed in range(5)
            for week in range(12)
        ],
        columns=[*tables.KEY, "seed", "week", "value"],
    )
    table = ablations.compare(kpis, FAMILY, weeks, **WHERE).set_index("variant")
    assert table.loc["none", "difference_weeks"] == pytest.approx(0.03, abs=0.002)
    assert table.loc["none", "p_weeks"] < 1e-6
    assert "p_weeks" in ablations.printed(table) and "difference_weeks" not in ablations.printed(table)


def test_what_is_missing_is_told(kpis: pd.DataFrame) -> None:
    there = kpis[~((kpis["variant"] == "none") & (kpis["seed"] > 2))]
    gaps = ablations.missing(there, (FAMILY.reference, *FAMILY.variants), range(5), **WHERE)
    assert gaps == {"none": [3, 4], "shared_actors": [0, 1, 2, 3, 4]}
    assert "`none` (seeds 3, 4)" in ablations.told(gaps)
    assert ablations.compare(there, FAMILY, **WHERE).set_index("variant").loc["none", "seeds"] == 3
    with pytest.raises(ValueError, match="no rows of horizon_0"):
        ablations.compare(kpis, ablations.FAMILIES["maddpg"], **WHERE)


def test_one_seed_is_compared_but_not_tested(kpis: pd.DataFrame) -> None:
    table = ablations.compare(kpis[kpis["seed"] == 0], FAMILY, **WHERE)
    assert table["p_holm"].isna().all() and table["difference"].notna().sum() == 4
    texts = ablations.sentences(table, FAMILY)
    assert sum("a single seed cannot test" in text for text in texts) == 4
    assert "nan" not in " ".join(texts)


def test_sentences_are_those_of_the_rows(kpis: pd.DataFrame) -> None:
    texts = {text.split("*")[1]: text for text in ablations.sentences(ablations.compare(kpis, FAMILY, **WHERE), FAMILY)}
    assert "better (Holm's p" in texts["attention"] and "worse (Holm's p" in texts["local"]
    assert "do not tell from none" in texts["mean field"]
    assert "fails the service gate" in texts["broadcast"]
    assert sum("gate" in text for text in texts.values()) == 1
    swapped = kpis.assign(value=np.where(kpis["variant"] == "attention", kpis["value"] + 0.1, kpis["value"]))
    told = ablations.sentences(ablations.compare(swapped, FAMILY, **WHERE), FAMILY)
    assert any("attention" in text and "worse" in text for text in told)
    nothing = kpis.assign(value=np.where(kpis["variant"].isin(EFFECTS), 0.8, kpis["value"]))
    told = ablations.sentences(ablations.compare(nothing, FAMILY, **WHERE), FAMILY)
    assert sum("a difference of 0.000 ± 0.000, none at all" in text for text in told) == len(EFFECTS) - 1


# --- the figures ---


def drawn(kpis: pd.DataFrame) -> dict[str, tuple]:
    table = ablations.compare(kpis, FAMILY, **WHERE)
    names = list(ablations.FRONT)
    priorities = dict(zip(EFFECTS, [names[2], *names[:2], *names[3:]], strict=True))
    renamed = kpis.assign(variant=kpis["variant"].replace(priorities))
    terms = ablations.ratios(renamed, names, **WHERE)
    size = pd.DataFrame({"homes": [5, 17, 100, 1000], "microseconds": [4.0, 4.2, 9.0, 40.0]})
    size = size.assign(seeds=5, batch=64, updates=400, memory=[1.0, 1.1, 2.0, np.nan])
    size = size.assign(composite_vs_bau=0.8, composite_vs_bau_half=0.01)
    return {
        "forest": (
            ablations.forest(ablations.differences(kpis, table, FAMILY, **WHERE), table, FAMILY),
            ablations.forest_caption(table, FAMILY, **WHERE),
        ),
        "front": (ablations.front(terms), ablations.front_caption(terms, **WHERE)),
        "scale": (ablations.scale(size), ablations.scale_caption(size, **WHERE)),
    }


@pytest.mark.parametrize("language", labels.LANGUAGES)
def test_figures_fit_and_captions_hold_numbers(kpis: pd.DataFrame, language: str) -> None:
    labels.use(language)
    comma = "," if language == "es" else "."
    for name, (figure, caption) in drawn(kpis).items():
        assert figure.get_size_inches()[0] == pytest.approx(page.TEXT_WIDTH)
        tight, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert tight.x0 > -0.02 and tight.x1 < width + 0.02 and tight.y0 > -0.02 and tight.y1 < height + 0.02, name
        assert "{" not in caption and not re.search(r"\bnan\b", caption) and caption.endswith(".")
        assert f"0{comma}" in caption
    assert "†" in drawn(kpis)["forest"][1] and labels.variant("broadcast") in drawn(kpis)["forest"][1]


def test_a_figure_shows_every_seed(kpis: pd.DataFrame) -> None:
    table = ablations.compare(kpis, FAMILY, **WHERE)
    data = ablations.differences(kpis, table, FAMILY, **WHERE)
    figure = ablations.forest(data, table, FAMILY)
    assert len(data) == 20
    shown = np.concatenate([line.get_xdata() for line in figure.axes[0].get_lines() if line.get_marker() == "o"])
    assert sorted(shown) == pytest.approx(sorted(data["difference"]))


def test_a_family_is_published_whole(kpis: pd.DataFrame, tmp_path: Path) -> None:
    ablations.publish("coordination", kpis, "trial", range(5), **WHERE)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {
        "results/trial/tables/ablation_coordination.csv",
        "figures/trial/ablation_coordination.csv",
        *(f"results/trial/tables/{language}/ablation_coordination.tex" for language in labels.LANGUAGES),
        *(
            f"figures/trial/{language}/ablation_coordination.{kind}"
            for language in labels.LANGUAGES
            for kind in ("pdf", "png", "tex", "txt")
        ),
    }
    tex = (tmp_path / "results/trial/tables/en/ablation_coordination.tex").read_text(encoding="utf-8")
    assert tex.count(r"\midrule") == 2 and "NO" in tex and "[0.7" in tex
    assert all(ord(letter) < 0x2000 for letter in tex)
    ablations.publish("unseen", kpis, "trial", range(5), **WHERE)  # nothing is there: told, not drawn
    assert not list(tmp_path.rglob("*unseen*"))


def test_ratios_are_over_business_as_usual(kpis: pd.DataFrame) -> None:
    terms = ablations.ratios(kpis, ["none", "headline"], **WHERE)
    assert list(dict.fromkeys(terms["variant"])) == ["none", "headline"]
    expected = ablations.composites(kpis, ["none"], **WHERE)["none"].to_numpy()
    for term in tables.TERMS:
        assert terms.loc[terms["variant"] == "none", term].to_numpy() == pytest.approx(expected)


def test_sizes_are_read_from_the_runs(kpis: pd.DataFrame) -> None:
    for seed, seconds in enumerate((30.0, 50.0)):
        record = {"homes": 17, "settings": {"train": {"batch": 4, "rollout_horizon": 10}}}
        record["training"] = {"seconds": seconds, "updates": 100, "memory_mb": 1024.0 * (1 + seed)}
        folder = paths.run("trial", "official", ablations.CONTROLLER, "headline", seed)
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(record))
        # ten seconds of compilation and a first validation come before the rate is taken
        pd.DataFrame({"update": [20, 100], "seconds": [10.0, 10 + seconds * 0.8]}).to_csv(folder / "training.csv")
    table = ablations.sizes("trial", kpis[kpis["seed"] < 2], **WHERE)
    assert len(table) == 1 and table.loc[0, "homes"] == 17 and table.loc[0, "seeds"] == 2
    assert table.loc[0, "seconds_per_update"] == pytest.approx(0.4) and table.loc[0, "memory"] == 2
    assert table.loc[0, "microseconds"] == pytest.approx(0.4e6 / (17 * 4 * 10))
    assert ablations.sizes("trial", kpis, ["scale_5"], **WHERE).empty


def test_homes_and_cars() -> None:
    def bills(**seeds: list[float]) -> pd.DataFrame:
        return pd.DataFrame(seeds.values(), [int(seed[1:]) for seed in seeds], ["a", "b", "c"])

    usual = bills(s0=[10.0, 20.0, 30.0])
    costs = bills(s0=[5.0, 10.0, 30.0], s1=[5.0, 10.0, 33.0])
    reference = bills(s1=[4.0, 8.0, 24.0], s0=[4.0, 8.0, 24.0], s2=[4.0, 8.0, 27.0])
    groups = ablations.cost_by_group(costs, reference, usual, ["a", "b"]).set_index("group")
    assert groups.loc["trained", "cost_vs_bau"] == 0.5 and groups.loc["unseen", "cost_vs_bau"] == pytest.approx(1.05)
    assert groups.loc["trained", "homes"] == 2 and groups.loc["unseen", "cost_reference"] == pytest.approx(2.5 / 3)
    unseen = groups.loc["unseen"]  # paired: 1.0 - 0.8 and 1.1 - 0.8
    assert unseen["seeds"] == 2 and unseen["cost_difference"] == pytest.approx(0.25)
    assert unseen["cost_difference_half"] == pytest.approx(statistics.half_width(pd.Series([0.2, 0.3])))
    flows = pd.DataFrame({"row": [0, 1], "charger/x": [3.0, -1.5], "charger/y": [-0.5, 0.0], "battery/h": [-9.0, 0.0]})
    assert ablations.exchanged(flows) == (2.0, 3.0)
