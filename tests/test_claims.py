"""The verdicts follow the rows: each claim is confirmed, refuted or left open by made-up runs of known effects."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import find, model
from test_comparison import lines

from thesis_lib import paths
from thesis_lib.analysis import ablations, claims, evaluation, evidence, labels, robustness, tables
from thesis_lib.analysis.statistics import Estimate
from thesis_lib.community.model import Community
from thesis_lib.config import load_config
from thesis_lib.provenance import write_csv_atomic

SETTINGS = load_config("test").train | {"coordination": "none"}
OURS, BAU, NO_CONTROL = ("cooperative_maddpg", "broadcast"), evidence.BAU, evidence.NO_CONTROL
LUCK = [0.004, -0.002, 0.0, 0.003, -0.005]
EDITION = "offline"


@pytest.fixture(scope="module")
def community() -> Community:
    return model(EDITION, torch.float32)


@pytest.fixture(autouse=True)
def folder(community: Community, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = find(EDITION)  # before the root moves
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    labels.use("en")
    yield found
    labels.use("en")


def run(pair: tuple[str, str], seed: int, level: float, profile: str = "trial", met: float = 0.997, **extra: float):
    """A run on disk: its rows at a level of business as usual's, its record, a learner's log."""
    where = paths.run(profile, EDITION, *pair, seed)
    where.mkdir(parents=True)
    rows = pd.DataFrame(lines(pair, seed, level, met), columns=evaluation.COLUMNS).assign(edition=EDITION)
    more = {"self_consumption": 0.8, "battery_cycles": 200.0, "load_factor_penalty_median": 0.6} | extra
    known = rows.iloc[:1]
    rows = pd.concat([rows, *(known.assign(kpi=kpi, value=value, split="test") for kpi, value in more.items())])
    rows = pd.concat([rows, rows[rows["split"] == "test"].assign(split="year")])
    scale = {"import": 168_000.0, "cost": 31_000.0, "emissions": 27_000.0}
    year = (rows["split"] == "year") & rows["kpi"].isin(scale)
    rows.loc[year, "value"] = [scale[kpi] * level for kpi in rows.loc[year, "kpi"]]
    rows.to_csv(where / "kpis.csv", index=False)
    train = {"batch": 4, "rollout_horizon": 10}
    record = {"git": {"commit": "abcdef1234"}, "controller": pair[0], "variant": pair[1], "stages": {}, "homes": 17}
    record |= {"settings": {"train": train}, "training": {"seconds": 10.0, "updates": 100, "memory_mb": 500.0}}
    (where / "run.json").write_text(json.dumps(record))
    if pair[0] in ("cooperative_maddpg", "marlisa"):
        log = {"seed": seed, "update": [10, 20], "seconds": [2.0, 3.0], "composite": [level + 0.1, level]}
        pd.DataFrame(log).to_csv(where / "training.csv", index=False)


def learner(variant: str, level: float, profile: str = "trial", name: str = "cooperative_maddpg", **options: float):
    noise = np.random.default_rng(len(variant)).normal(0, 0.0005, len(LUCK))
    for seed, luck in enumerate(LUCK):
        run((name, variant), seed, level + luck + noise[seed], profile, **options)


def known(community: Community, data) -> claims.Evidence:
    read = [evidence.Rows.read(profile, EDITION) for profile in ("trial", "ablations")]
    return claims.Evidence(*read, data=data, community=community, settings_alone=SETTINGS, seeds=10)


def verdict(number: int, community: Community, data) -> claims.Finding:
    return claims.CLAIMS[number - 1].judge(known(community, data))


# --- criteria ---


def test_criteria_of_an_interval() -> None:
    above, below, across = Estimate(0.35, 0.32, 0.38), Estimate(0.2, 0.1, 0.25), Estimate(0.3, 0.2, 0.4)
    assert [claims.at_least(e, 0.3) for e in (above, below, across, None)] == [
        *(claims.CONFIRMED, claims.REFUTED, claims.UNDECIDED, claims.NOT_MEASURED)
    ]
    one_seed = Estimate(0.9, float("nan"), float("nan"))
    assert claims.at_least(one_seed, 0.3) == claims.UNDECIDED
    assert claims.within(above, 0.3, 0.4) == claims.CONFIRMED and claims.within(below, 0.3, 0.4) == claims.REFUTED
    assert claims.within(across, 0.3, 0.5) == claims.UNDECIDED
    assert claims.every(claims.CONFIRMED, claims.UNDECIDED) == claims.UNDECIDED
    assert claims.every(claims.NOT_MEASURED, claims.REFUTED) == claims.REFUTED
    assert claims.every(claims.CONFIRMED, claims.CONFIRMED) == claims.CONFIRMED


# --- without rows ---


def test_without_rows_nothing_is_claimed(community: Community, folder) -> None:
    findings = claims.judge(known(community, folder))
    assert list(findings) == list(range(1, 16))
    assert {n for n, found in findings.items() if found.verdict != claims.NOT_MEASURED} == {3, 4, 5, 11}
    assert findings[3].verdict == findings[4].verdict == claims.REFUTED
    assert findings[5].verdict == claims.NOT_TESTABLE and findings[5].estimate.value == 0
    assert findings[11].verdict == claims.CONFIRMED
    assert all(found.measured for found in findings.values())


# --- claim by claim ---


@pytest.mark.parametrize(
    ("level", "expected"), [(0.7, claims.CONFIRMED), (1.0, claims.REFUTED), (0.91, claims.UNDECIDED)]
)
def test_savings_against_no_control(level: float, expected: str, community: Community, folder) -> None:
    run(BAU, 0, 1.0)
    learner("broadcast", level)
    assert verdict(1, community, folder).verdict == claims.NOT_MEASURED  # no rows of charging on arrival
    run(NO_CONTROL, 0, 1.3)
    found = verdict(1, community, folder)
    assert found.verdict == expected
    assert found.estimate.value == pytest.approx(1 - level / 1.3, abs=0.001)
    assert "5 of 10 seeds" in found.measured and "abcdef1" in found.source and "cooperative_maddpg" in found.source


def test_savings_say_what_cars_did_not_take_and_what_was_learned(community: Community, folder) -> None:
    run(BAU, 0, 1.0)
    run(NO_CONTROL, 0, 1.3)
    run(("habits", "default"), 0, 0.8)
    learner("broadcast", 0.6)
    for pair, power in ((OURS, 500.0), (BAU, 900.0)):
        flows = pd.DataFrame({"charger/a": [power, -100.0], "charger/b": [100.0, 0.0], "battery/a": 7.0})
        flows.to_csv(paths.run("trial", EDITION, *pair, 0) / "flows.csv.gz", index=False)
    for number in (1, 8):
        assert "0.5" in (told := verdict(number, community, folder).measured) and "0.9" in told and "net" in told
        assert "0.04 of SOC below what they ask" in told
    told = verdict(1, community, folder).measured
    assert "Against Habits, untrained: import −25.0" in told and "already import 38.5% less than" in told
    bases = evidence.impact(known(community, folder).thesis, OURS).groupby("base").size()
    assert dict(bases) == {"charge_on_arrival": 3, "business_as_usual": 3, "habits": 3}


def test_a_run_of_a_changed_tree_is_named_so(community: Community, folder) -> None:
    run(BAU, 0, 1.0)
    file = paths.run("trial", EDITION, *BAU, 0) / "run.json"
    assert "uncommitted" not in known(community, folder).thesis.sources(BAU)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"git": {"commit": "abcdef1234", "dirty": True}}))
    assert "abcdef1 with uncommitted changes" in known(community, folder).thesis.sources(BAU)


def test_seeds_in_a_row_are_named_by_their_ends(community: Community, folder) -> None:
    for seed in (0, 1, 2):
        run(OURS, seed, 0.7)
    assert "(seeds 0-2; commit" in known(community, folder).thesis.sources(OURS)
    run(OURS, 4, 0.7)
    assert "(seeds 0, 1, 2, 4; commit" in known(community, folder).thesis.sources(OURS)


def test_marlisa_is_compared_only_with_rows(community: Community, folder) -> None:
    run(BAU, 0, 1.0)
    learner("broadcast", 0.68)
    assert verdict(2, community, folder).verdict == claims.NOT_MEASURED
    learner("default", 0.80, name="marlisa")
    found = verdict(2, community, folder)
    assert found.verdict == claims.CONFIRMED and found.estimate.value == pytest.approx(0.12, abs=0.001)
    assert "in common" in found.measured


def test_v2g_needs_service_on_both_sides(community: Community, folder) -> None:
    run(BAU, 0, 1.0, "ablations")
    learner("headline", 0.70, "ablations")
    learner("v2g_off", 0.73, "ablations")
    assert verdict(6, community, folder).verdict == claims.CONFIRMED
    for seed in range(5):
        file = paths.run("ablations", EDITION, ablations.CONTROLLER, "v2g_off", seed) / "kpis.csv"
        rows = pd.read_csv(file)
        rows.loc[rows["kpi"] == "ev_departures_met", "value"] = 0.9
        rows.to_csv(file, index=False)
    found = verdict(6, community, folder)
    assert found.verdict == claims.UNDECIDED and "no comparison" in found.measured


def test_battery_and_self_consumption(community: Community, folder) -> None:
    run(BAU, 0, 1.0, self_consumption=0.7)
    learner("broadcast", 0.7, self_consumption=0.995)
    assert verdict(7, community, folder).verdict == claims.NOT_MEASURED  # no flows yet
    for pair, rate in ((OURS, 0.3), (BAU, 0.1)):
        soc = pd.DataFrame({"battery_soc/a": [0.5, 0.5 + rate, 0.5, 0.5], "battery/a": 0.0})
        soc.to_csv(paths.run("trial", EDITION, *pair, 0) / "flows.csv.gz", index=False)
    found = verdict(7, community, folder)
    assert evidence.c_rates(soc) == pytest.approx([0.1, 0.1])
    assert found.verdict == claims.CONFIRMED and found.estimate.value == pytest.approx(0.295)


def test_a_year_cannot_save_more_than_there_is(community: Community, folder) -> None:
    run(BAU, 0, 1.0)
    learner("broadcast", 0.1)
    found = verdict(8, community, folder)
    assert found.verdict == claims.REFUTED and "168,000" in found.measured
    table = evidence.impact(known(community, folder).thesis, OURS).set_index("kpi")
    assert table.loc["import", "saved"] == pytest.approx(0.9 * 168_000, rel=0.001)
    test_weeks = 8760 / 2016 * (140 - 140 * 0.1)  # import is the last term: 100 * 1.4 in the made-up weeks
    assert table.loc["import", "saved_test"] == pytest.approx(test_weeks, rel=0.001)


def test_the_reward_and_the_team(community: Community, folder, monkeypatch: pytest.MonkeyPatch) -> None:
    idle, full = evidence.reward_responds(community)
    assert full < idle < 0
    run(BAU, 0, 1.0, "ablations")
    learner("headline", 0.70, "ablations")
    learner("individual_reward", 0.74, "ablations")
    assert verdict(9, community, folder).verdict == claims.CONFIRMED
    monkeypatch.setattr(evidence, "reward_responds", lambda _: (-1.0, -1.0))
    assert verdict(9, community, folder).verdict == claims.REFUTED


def test_training_improves_or_not(community: Community, folder) -> None:
    run(BAU, 0, 1.0)
    learner("broadcast", 0.7)
    found = verdict(10, community, folder)
    assert found.verdict == claims.CONFIRMED and found.estimate.value == pytest.approx(0.1)
    for seed in range(5):
        file = paths.run("trial", EDITION, *OURS, seed) / "training.csv"
        pd.read_csv(file).assign(composite=[0.7, 0.8 + seed / 100]).to_csv(file, index=False)
    assert verdict(10, community, folder).verdict == claims.REFUTED


def test_a_home_that_listens_is_not_alone(community: Community) -> None:
    assert evidence.decides_alone(community, SETTINGS) == 0
    assert evidence.decides_alone(community, SETTINGS | {"coordination": "mean_field"}) > 0


def test_attention_weights_and_robustness(community: Community, folder) -> None:
    run(BAU, 0, 1.0, "ablations")
    learner("headline", 0.70, "ablations")
    learner("none", 0.72, "ablations")
    learner("attention", 0.69, "ablations")
    assert verdict(12, community, folder).verdict == claims.NOT_MEASURED  # of two, one is there
    learner("mean_field", 0.75, "ablations")
    found = verdict(12, community, folder)
    assert found.verdict == claims.REFUTED and found.estimate.value == pytest.approx(-0.03, abs=0.001)
    family = ablations.FAMILIES["weights"]
    for place, name in enumerate(family.variants):
        assert verdict(14, community, folder).verdict == claims.NOT_MEASURED
        learner(name, 0.75 + place / 100, "ablations")
    assert verdict(14, community, folder).verdict == claims.CONFIRMED
    for name in (*ablations.FAMILIES["unseen"].variants, *ablations.FAMILIES["meters"].variants):
        learner(name, 0.85, "ablations")
    found = verdict(15, community, folder)
    assert found.verdict == claims.NOT_MEASURED and "1,000 homes" in found.measured and "3 homes out" in found.measured
    rows = [
        (EDITION, ablations.CONTROLLER, name, seed, "test", kpi, value + seed / 1000 * (kpi == tables.COMPOSITE), "1")
        for name in robustness.VARIANTS
        for seed in range(5)
        for kpi, value in zip(robustness.KPIS, (0.8, 0.997, 1.0), strict=True)
    ]
    troubled = pd.DataFrame(rows, columns=evaluation.COLUMNS[:8]).assign(dropped="", recipe="of today")
    troubled["engine"] = evidence.Rows.read("ablations", EDITION).engine
    write_csv_atomic(paths.results("ablations") / robustness.FILE, troubled[robustness.COLUMNS])
    learner("scale_1000", 0.7, "ablations")
    for seed in range(5):
        file = paths.run("ablations", EDITION, ablations.CONTROLLER, "scale_1000", seed) / "run.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"homes": 1000}))
    assert verdict(15, community, folder).verdict == claims.CONFIRMED


@pytest.mark.parametrize(
    ("first", "expected"), [(0.75, claims.CONFIRMED), (0.7, claims.UNDECIDED), (0.65, claims.REFUTED)]
)
def test_priorities_no_worse_than_ours_decide_nothing(
    first: float, expected: str, community: Community, folder
) -> None:
    run(BAU, 0, 1.0, "ablations")
    learner("headline", 0.70, "ablations")
    family = ablations.FAMILIES["weights"]
    for name, level in zip(family.variants, (first, 0.76, 0.77, 0.78, 0.79, 0.8, 0.81), strict=True):
        learner(name, level, "ablations")
    assert verdict(14, community, folder).verdict == expected


def test_latency_is_read_from_the_benchmark(community: Community, folder) -> None:
    for figures, expected in (((0.5, 2000.0), claims.REFUTED), ((60.0, 15.0), claims.CONFIRMED)):
        record = dict(zip(("request_p50_ms_at_500", "saturation_rps"), figures, strict=True))
        paths.results("trial").mkdir(parents=True, exist_ok=True)
        (paths.results("trial") / "latency.json").write_text(json.dumps({"service": record}))
        assert verdict(13, community, folder).verdict == expected


# --- what is written ---


def test_tables_in_both_languages_and_plain_numbers(community: Community, folder, monkeypatch) -> None:
    monkeypatch.setattr(evidence, "decides_alone", lambda *_: 0.0)  # tested above
    run(BAU, 0, 1.0)
    run(NO_CONTROL, 0, 1.3)
    learner("broadcast", 0.7)
    claims.save(known(community, folder), "trial")
    table = pd.read_csv(paths.tables("trial") / "claims.csv").set_index("claim")
    assert set(table["verdict"]) <= set(claims.VERDICTS) and len(table) == 15
    assert table.loc[1, "low"] < table.loc[1, "value"] < table.loc[1, "high"]
    for language, word in (("es", "refutada"), ("en", "refuted")):
        tex = (paths.tables("trial") / language / "claims.tex").read_text(encoding="utf-8")
        assert word in tex and tex.count(r"\\") >= 15 and not re.search(r"\bnan\b", tex)
        assert all(ord(letter) < 0x2000 for letter in tex), "a sign that plain LaTeX cannot set"
    for claim in claims.CLAIMS:
        for part in ("said", "hypothesis", "test"):
            assert f"claim.{claim.number}.{part}" in labels.TEXT
