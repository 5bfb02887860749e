"""Tables keep plain numbers in their CSV and words only in the .tex, and never mix what must not be mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from thesis_lib import paths
from thesis_lib.analysis import (
    evaluation,
    exploration,  # noqa: F401  (brings the words of its tables)
    labels,
    tables,
)
from thesis_lib.community import dataset
from thesis_lib.community.kpis import Service
from thesis_lib.community.model import Community
from thesis_lib.config import load_config
from thesis_lib.controllers import rules
from thesis_lib.controllers.tuned import settings_file
from thesis_lib.provenance import write_csv_atomic, write_json_atomic

VALUES = {"business_as_usual": [1.0], "random": [0.6], "cooperative_maddpg": [0.74, 0.76, 0.81]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    labels.use("en")
    yield
    labels.use("en")


@pytest.fixture
def kpis() -> pd.DataFrame:
    lines = []
    for controller, values in VALUES.items():
        for seed, value in enumerate(values):
            for name, base in (("cost", 2500.0), ("daily_peak", 47.0), ("composite_vs_bau", 1.0)):
                lines.append((controller, seed, name, base * value))
            lines.append((controller, seed, "ev_departures_met", 0.4 if controller == "random" else 0.997))
            lines.append((controller, seed, "appliance_cycles_served", np.nan))
    table = pd.DataFrame(lines, columns=["controller", "seed", "kpi", "value"])
    table = table.assign(edition="official", variant="default", split="test", unit="1", engine="citylearn")
    return pd.concat([table, table.assign(engine="model", value=table["value"] * (1 + 1e-7))])


def test_main_table_puts_the_failing_apart_and_spreads_only_over_seeds(kpis: pd.DataFrame) -> None:
    table = tables.controllers(kpis)
    assert list(table["controller"]) == ["business_as_usual", "cooperative_maddpg", "random"]
    assert list(table["gate"]) == [True, True, False]
    learner = table.set_index("controller").loc["cooperative_maddpg"]
    values = VALUES["cooperative_maddpg"]
    assert learner["seeds"] == 3
    assert learner["composite_vs_bau"] == pytest.approx(np.mean(values))
    half = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) / np.sqrt(3)
    assert learner["composite_vs_bau_half"] == pytest.approx(half)
    assert np.isnan(table.set_index("controller").loc["business_as_usual", "cost_half"])


def test_ratios_are_over_business_as_usual(kpis: pd.DataFrame) -> None:
    table = tables.controllers(kpis, over_bau=True).set_index("controller")
    assert table.loc["business_as_usual", "cost_vs_bau"] == 1
    assert table.loc["random", "daily_peak_vs_bau"] == pytest.approx(0.6)
    assert not any(str(column).startswith("ev_departures") for column in table)


def test_one_failing_seed_fails_the_gate(kpis: pd.DataFrame) -> None:
    rows = tables.select(kpis, split="test", engine="citylearn").copy()
    worst = (rows["controller"] == "cooperative_maddpg") & (rows["seed"] == 2)
    rows.loc[worst & (rows["kpi"] == "ev_departures_met"), "value"] = 0.98
    assert not tables.gate(rows).loc[("cooperative_maddpg", "default"), "passes"]
    rows.loc[worst & (rows["kpi"] == "ev_departures_met"), "value"] = 0.997
    rows.loc[worst & (rows["kpi"] == "appliance_cycles_served"), "value"] = 0.9
    assert not tables.gate(rows).loc[("cooperative_maddpg", "default"), "passes"]


def test_engines_are_compared_on_the_same_seeds(kpis: pd.DataFrame) -> None:
    table = tables.engines(kpis)
    assert table["distance"].dropna().max() == pytest.approx(1e-7, rel=1e-3)


@pytest.mark.parametrize("language", labels.LANGUAGES)
def test_saved_tables_round_trip(kpis: pd.DataFrame, language: str) -> None:
    labels.use(language)
    table = tables.controllers(kpis)
    csv = tables.save(table, "main", "test", lambda: tables.caption("main", split="test"))
    assert csv == paths.results("test") / "tables" / "main.csv"
    pd.testing.assert_frame_equal(pd.read_csv(csv), table, check_dtype=False)
    file = csv.parent / language / "main.tex"
    tex = file.read_text(encoding="utf-8")
    assert tex.count(r"\midrule") == 2 and r"\toprule" in tex and r"\label{tab:main}" in tex
    cell = r"0,770 $\pm$ 0,090" if language == "es" else r"0.770 $\pm$ 0.090"
    assert cell in tex
    assert labels.controller("business_as_usual") in tex
    assert labels.t("table.controller") in tex and r"\texteuro{}" in tex
    assert tex.index(labels.controller("random")) > tex.index(labels.controller("cooperative_maddpg"))
    assert all(ord(letter) < 0x2000 for letter in tex), "a sign that plain LaTeX cannot set"
    files = sorted(p.relative_to(csv.parent).as_posix() for p in csv.parent.rglob("*.*"))
    assert files == ["en/main.tex", "es/main.tex", "main.csv"]


def test_mixing_is_refused_in_one_line(kpis: pd.DataFrame) -> None:
    both = pd.concat([kpis, kpis.assign(edition="offline")])
    for call in (
        lambda: tables.controllers(both),
        lambda: tables.select(kpis),
        lambda: tables.select(kpis, split="tests"),
        lambda: tables.relative(kpis[kpis["controller"] == "random"]),
        lambda: tables.relative(pd.concat([kpis, kpis[kpis["controller"] == tables.BAU].assign(variant="homes_5")])),
    ):
        with pytest.raises(ValueError) as told:
            call()
        assert "\n" not in str(told.value)


def test_whole_numbers_print_as_such() -> None:
    frame = pd.DataFrame({"controller": ["rule", "random"], "peak_hour": [5.0, 13.0], "cost_vs_bau": [1.0, 0.9]})
    assert list(tables.printed(frame)[tables.heading("peak_hour")]) == ["5", "13"]
    assert list(tables.printed(frame)[tables.heading("cost_vs_bau")]) == ["1.000", "0.900"]


def test_no_size_has_three_decimals_that_could_be_thousands() -> None:
    sizes = pd.DataFrame({"peak_kw": [7.987, 8.846], "year_minutes": [1.472, 4.455]})
    fit = pd.DataFrame({"figure": ["stay, mean (h)"], "official": [1.65], "ratio": [0.99]})
    with labels.using("es"):
        assert tables.printed(sizes).to_numpy().tolist() == [["8,0", "1,5"], ["8,8", "4,5"]]
        assert tables.printed(fit).to_numpy().tolist() == [["estancia, media (h)", "1,65", "0,990"]]


def test_a_long_table_runs_over_pages_and_a_wide_one_shrinks() -> None:
    long = tables._tex(pd.DataFrame({"parameter": ["x" * 70] * 41, "value": 1}), "Words", "tab:long")
    assert r"\begin{longtable}" in long and r"p{0.58\textwidth}" in long and "resizebox" not in long
    wide = tables._tex(pd.DataFrame({"parameter": ["x"], "value": 1}), "Words", "tab:wide")
    assert r"\resizebox" in wide and r"\begin{table}" in wide


def test_a_plan_pays_for_each_decision_and_a_policy_for_its_training() -> None:
    stages = {"training": {"cpu_s": 120.0}, "evaluation_citylearn": {"cpu_s": 60.0}}
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text("made: {spent: {cpu_minutes: 2.5}}", encoding="utf-8")
    for controller, record in (
        ("mpc_forecast", {"decision_seconds": {"citylearn": {"p50": 0.03, "p95": 0.07}}}),
        ("cooperative_maddpg", {"stages": stages}),
        ("tuned_rule", {}),
        ("rule", {}),
        ("optimum", {"stages": {"bound_year": {"cpu_s": 180.0}}}),
    ):
        file = paths.run("test", "official", controller, "default", 0) / "run.json"
        write_json_atomic(file, {"controller": controller, "variant": "default", "stages": {}} | record)
    forms = pd.DataFrame({"variant": ["default"], "form": ["onnx"], "p50_us": [177.0]})
    write_csv_atomic(paths.tables("test") / "latency_forms.csv", forms)
    table = tables.costs("test", "official").set_index("controller")
    assert list(table.index) == ["tuned_rule", "cooperative_maddpg", "mpc_forecast", "optimum"]  # of the rule nothing
    assert table.loc["tuned_rule", "training_minutes"] == 2.5 and table.loc["optimum", "year_minutes"] == 3
    assert table.loc["mpc_forecast", ["decision_us", "decision_slow_us"]].tolist() == pytest.approx([30000, 70000])
    assert table.loc["cooperative_maddpg", ["training_minutes", "decision_us"]].tolist() == [2, 177]


def test_latex_escapes_what_it_must() -> None:
    assert labels.latex("a_b & 5 % of {x}") == r"a\_b \& 5 \% of \{x\}"
    assert labels.latex("−1 ± 2 €") == r"$-$1 $\pm$ 2 \texteuro{}"


def test_settings_carry_the_comments_of_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "ROOT", Path(__file__).parents[1])
    table = tables.settings("quick", {"discount": 0.99, "unheard_of": 1}).set_index("parameter")
    assert table.loc["discount", "value"] == 0.99 and "per hour" in table.loc["discount", "meaning"]
    assert table.loc["unheard_of", "meaning"] == ""
    # A key that comes again below, for another learner, keeps its own comment; one without takes the line above it.
    table = tables.settings("thesis", {"rollout_horizon": 48, "weights": {"cost": 0.25}}).set_index("parameter")
    assert table.loc["rollout_horizon", "meaning"].startswith("K: hours rolled")
    assert table.loc["weights.cost", "meaning"].startswith("Of the reward's terms")
    # Every setting has a meaning in both languages.
    table = tables.settings("thesis", load_config("thesis").train)
    assert (table["meaning"] != "").all()
    with labels.using("es"):
        assert not set(tables.printed(table)["Significado"]) & set(table["meaning"])


@pytest.mark.usefixtures("official")
def test_a_run_comes_back_from_the_flows_it_stored() -> None:
    run, service, community = evaluation.roll(
        rules.SpreadCharging(), dataset.find("official"), "model", end=72, progress=False
    )
    again = tables.replay(evaluation.controlled(run, community), community)
    assert np.abs(again.net - run.net).max() < 5e-3  # flows are stored to the Wh
    for field in ("load", "pv", "price", "carbon"):
        np.testing.assert_allclose(getattr(again, field), getattr(run, field), rtol=1e-6)

    district = tables.district(again, service)
    np.testing.assert_allclose(district["net"], run.district, atol=5e-3)
    assert district["car_soc"].dropna().between(0, 1).all()
    surroundings = tables.context(community)
    np.testing.assert_allclose(surroundings["load"][:72], district["load"])
    costs = tables.home_costs(again, community.home_names, "rule", rows=np.arange(24))
    expected = (run.price[:24] * np.clip(run.net[:24], 0, None)).sum()
    assert costs["value"].sum() == pytest.approx(expected, rel=1e-3) and len(costs) == community.homes
    left = tables.departures(again, service, "rule")
    assert left["feasible"].any() and {"soc", "required", "controller"} <= set(left.columns)
    homes = tables.homes(community)
    assert homes["chargers"].sum() == community.chargers and homes["actions"].max() == community.slots


@pytest.fixture(scope="module")
def year(official: dataset.Dataset) -> tuple[list[Any], Service, Community]:
    """The chargers of the official year, what is owed in it, and the community."""
    env = dataset.load(official)
    env.reset()
    chargers = [charger for home in env.buildings for charger in home.electric_vehicle_chargers]
    return chargers, Service.from_citylearn(env), Community.from_citylearn(env)


def test_sixteen_cars_leave_before_their_countdown_ends(year: tuple[list[Any], Service, Community]) -> None:
    early = 0
    for charger in year[0]:
        here = np.asarray(charger.charger_simulation.electric_vehicle_charger_state)[:8760] == 1
        countdown = np.asarray(charger.charger_simulation.electric_vehicle_departure_time)[:8760]
        early += int((here[:-1] & ~here[1:] & (countdown[:-1] > 0)).sum())
    assert early == 16


@pytest.mark.parametrize(
    "pair",
    [
        ("cooperative_maddpg", "announce"),
        ("cooperative_maddpg", "broadcast"),
        ("cooperative_maddpg", "none"),
        ("marlisa", "default"),
        ("mpc_forecast", "default"),
    ],
)
def test_departures_missed_in_the_thesis_are_of_cars_that_leave_before_their_countdown_ends(
    pair: tuple[str, str], year: tuple[list[Any], Service, Community], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/protocol.md says: nobody could know, and no other departure was missed."""
    monkeypatch.setattr(paths, "ROOT", Path(__file__).parents[1])
    chargers, service, community = year
    run = tables.replay(evaluation.read_flows("thesis", "official", *pair), community)
    missed = tables.departures(run, service, *pair).query("feasible and not met")
    pairs = missed[["charger", "row"]].to_numpy()
    left = [chargers[c].charger_simulation.electric_vehicle_departure_time[row] for c, row in pairs]
    assert set(left) == {1}
