"""Runs leave whole rows, are not rolled twice, and are measured against their own reference."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from thesis_lib import paths
from thesis_lib.analysis import evaluation, learner
from thesis_lib.analysis.evaluation import EvaluationError, evaluate_controller
from thesis_lib.community import dataset
from thesis_lib.controllers import rules
from thesis_lib.controllers.linear import SolverError

END = 72


@pytest.fixture(scope="module")
def data():
    return dataset.find("official")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


class Counting(rules.SpreadCharging):
    """Counts how often it is reset."""

    rolled = 0

    def reset(self, community):
        type(self).rolled += 1
        super().reset(community)


def run(name, controller, data, engines=("model",), **options):
    return evaluate_controller(
        name, "default", 0, controller, data, "trial", engines, end=END, progress=False, **options
    )


@pytest.mark.usefixtures("official")
def test_a_run_leaves_its_rows_and_is_not_rolled_twice(data, elsewhere):
    bau = run("business_as_usual", rules.BusinessAsUsual(), data, ("citylearn", "model"))
    assert (bau[bau.kpi == "composite_vs_bau"].value == 1.0).all()
    Counting.rolled = 0
    rows = run("rule", Counting, data, ("citylearn", "model"), settings={"hidden_hours": 6})
    assert Counting.rolled == 2 and list(rows.columns) == evaluation.COLUMNS
    assert set(rows.engine) == {"citylearn", "model"} and set(rows.edition) == {"official"}

    folder = elsewhere / "results/trial/runs/official/rule/default/seed_0"
    assert sorted(file.name for file in folder.iterdir()) == [
        "flows.csv.gz",
        "homes.csv",
        "hourly.csv.gz",
        "kpis.csv",
        "run.json",
        "weekly.csv",
    ]
    record = json.loads((folder / "run.json").read_text())
    assert record["edition"] == "official" and record["seeds"] == [0] and "evaluation_model" in record["stages"]

    again = run("rule", Counting, data, ("citylearn", "model"), settings={"hidden_hours": 6})
    assert Counting.rolled == 2
    pd.testing.assert_frame_equal(again, rows, check_dtype=False)
    run("rule", Counting, data, ("citylearn", "model"), settings={"hidden_hours": 7})
    assert Counting.rolled == 4

    # both engines tell the same story
    wide = rows.pivot_table(index=["split", "kpi"], columns="engine", values="value")
    assert np.allclose(wide.citylearn, wide.model, rtol=1e-6)

    hourly = evaluation.read_hourly("trial", "official")
    assert list(hourly.columns) == ["controller", "variant", "seed", "row", "net"] and len(hourly) == 2 * END
    flows = evaluation.read_flows("trial", "official", "rule")
    assert len(flows) == END and flows["car_soc/Electric_Vehicle_1"].between(0, 1).all()
    assert not [column for column in flows if column.startswith(("load", "pv", "price"))]

    of_run = {"profile": "trial", "edition": "official", "controller": "rule", "variant": "default"}
    paid = evaluation.read_bills(**of_run, engine="model", split="year")
    cost = rows[(rows.kpi == "cost") & (rows.engine == "model") & (rows.split == "year")]
    assert paid.shape == (1, 17) and paid.loc[0].sum() == pytest.approx(cost.value.iloc[0])
    assert evaluation.read_bills(**of_run, engine="model", split="test").empty  # no test week in so few hours

    table = evaluation.collect("trial")
    assert len(table) == len(bau) + len(rows)
    first = (elsewhere / "results/trial/kpis.csv").read_bytes()
    evaluation.collect("trial")
    assert (elsewhere / "results/trial/kpis.csv").read_bytes() == first
    assert evaluation.gate(table).passes.all()


@pytest.mark.usefixtures("official")
def test_a_killed_run_is_rolled_again(data, elsewhere):
    run("business_as_usual", rules.BusinessAsUsual(), data)
    Counting.rolled = 0
    run("rule", Counting, data)
    folder = elsewhere / "results/trial/runs/official/rule/default/seed_0"
    (folder / "run.json").unlink()  # it is written last
    assert set(evaluation.collect("trial").controller) == {"business_as_usual"}
    run("rule", Counting, data)
    assert Counting.rolled == 2
    (folder / "run.json").write_text('{"recipe": ')
    run("rule", Counting, data)
    assert Counting.rolled == 3


@pytest.mark.usefixtures("official")
def test_other_code_is_rolled_again(data, elsewhere, monkeypatch):
    run("business_as_usual", rules.BusinessAsUsual(), data)
    Counting.rolled = 0
    library = elsewhere / "library"
    shutil.copytree(paths.LIBRARY, library)
    monkeypatch.setattr(paths, "LIBRARY", library)
    monkeypatch.setattr(evaluation, "_modules", lambda constructor: [library / "controllers" / "rules.py"])
    run("rule", Counting, data)
    assert Counting.rolled == 1
    (library / "community" / "kpis.py").open("a").write("\n# A remark changes nothing.\n")
    run("rule", Counting, data)
    assert Counting.rolled == 1
    (library / "community" / "kpis.py").open("a").write("\nCHANGE = True\n")
    with pytest.raises(EvaluationError, match="another window, data or code: evaluate business_as_usual first"):
        run("rule", Counting, data)
    run("business_as_usual", rules.BusinessAsUsual(), data)
    run("rule", Counting, data)
    assert Counting.rolled == 2


def test_weeks_are_over_business_as_usual_of_the_same_week(elsewhere):
    terms = {"cost": 2.0, "emissions": 3.0, "ramping": 5.0, "daily_peak": 7.0, "import": 11.0}
    for name, variant, share in (("business_as_usual", "default", 1.0), ("learner", "mine", 0.5)):
        folder = paths.run("trial", "official", name, variant, 0)
        folder.mkdir(parents=True)
        rows = [
            (engine, week, kpi, value * (week + 1) * (share if kpi == "cost" else 1.0))
            for engine in ("model", "citylearn")
            for week in range(12)
            for kpi, value in terms.items()
        ]
        pd.DataFrame(rows, columns=evaluation.WEEKLY).to_csv(folder / "weekly.csv", index=False)
        (folder / "run.json").write_text('{"homes": 17}')
    weeks = evaluation.read_weekly("trial", "official", "learner", "mine", 0, "model")
    assert list(weeks["week"]) == list(range(12)) and np.allclose(weeks["value"], 1 - 0.5 * 0.25)
    (folder / "weekly.csv").write_text(",".join(evaluation.WEEKLY) + "\n")  # of a run without a whole test week
    short = evaluation.read_weekly("trial", "official", "learner", "mine", 0, "model")
    assert short.empty and list(short.columns) == ["week", "value"]
    (folder / "run.json").write_text('{"homes": 100}')
    with pytest.raises(EvaluationError, match="has 100 homes and business_as_usual 17: compare the same homes"):
        evaluation.read_weekly("trial", "official", "learner", "mine", 0, "model")
    with pytest.raises(EvaluationError, match="weekly.csv is missing"):
        evaluation.read_weekly("trial", "official", "learner", "other", 0, "model")


def test_finished_runs_are_listed_in_order_and_their_logs_read(elsewhere):
    for controller, variant, seed in (("learner", "mine", 10), ("learner", "mine", 2), ("rule", "default", 0)):
        folder = paths.run("trial", "official", controller, variant, seed)
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"seeds": [seed]}))
        if controller == "learner":
            pd.DataFrame({"update": [1, 2], "seed": seed}).to_csv(folder / "training.csv", index=False)
    unfinished = paths.run("trial", "official", "learner", "mine", 3)
    unfinished.mkdir()
    pd.DataFrame({"update": [1], "seed": 3}).to_csv(unfinished / "training.csv", index=False)
    found = evaluation.runs("trial")
    assert [run[1:4] for run in found] == [("learner", "mine", 2), ("learner", "mine", 10), ("rule", "default", 0)]
    assert all(run.record() == {"seeds": [run.seed]} for run in found)
    assert evaluation.runs("trial", "offline") == [] == evaluation.runs("none")
    logs = evaluation.training_logs("trial", "official", [("rule", "default"), ("learner", "mine")])
    assert logs["seed"].tolist() == [2, 2, 10, 10]
    assert evaluation.training_logs("trial", "official", [("rule", "default")]).empty
    assert not evaluation.has_flows("trial", "official", "rule")
    (paths.run("trial", "official", "rule", "default", 0) / "flows.csv.gz").touch()
    assert evaluation.has_flows("trial", "official", "rule")


@pytest.mark.usefixtures("official")
def test_more_homes_need_the_model_and_their_own_reference(data, elsewhere):
    with pytest.raises(EvaluationError, match="cannot roll 5 homes"):
        run("business_as_usual", rules.BusinessAsUsual(), data, ("citylearn",), homes=5)
    with pytest.raises(EvaluationError, match="has no business_as_usual with 5 homes .* with the same edition, homes"):
        run("rule", rules.SpreadCharging(), data, homes=5)
    assert not (elsewhere / "results/trial/runs").exists(), "a run was begun that cannot be measured"
    evaluate_controller(
        "business_as_usual", "homes_5", 0, rules.BusinessAsUsual(), data, "trial", ("model",), end=END, homes=5
    )
    rows = run("rule", rules.SpreadCharging(), data, homes=5)
    assert 0 < rows[(rows.kpi == "composite_vs_bau") & (rows.split == "year")].value.iloc[0] < 2
    record = json.loads((elsewhere / "results/trial/runs/official/rule/default/seed_0/run.json").read_text())
    assert record["homes"] == 5


@pytest.mark.usefixtures("official")
def test_the_reference_must_be_there(data):
    with pytest.raises(EvaluationError, match="evaluate business_as_usual first"):
        run("rule", rules.SpreadCharging(), data)
    run("business_as_usual", rules.BusinessAsUsual(), data)
    with pytest.raises(EvaluationError, match="another engine citylearn: evaluate business_as_usual first"):
        run("rule", rules.SpreadCharging(), data, ("citylearn", "model"))
    with pytest.raises(EvaluationError, match="another window"):
        evaluate_controller("rule", "default", 0, rules.SpreadCharging(), data, "trial", ("model",), end=END + 24)


@pytest.mark.usefixtures("official")
def test_bad_requests_are_refused_before_anything_is_written(data, elsewhere):
    with pytest.raises(EvaluationError, match="unknown engine warp"):
        run("rule", rules.SpreadCharging(), data, ("warp",))
    with pytest.raises(ValueError, match="cannot name a folder"):
        run("../rule", rules.SpreadCharging(), data)
    with pytest.raises(EvaluationError, match="no finished run"):
        evaluation.collect("trial")
    assert not list(elsewhere.rglob("*.csv"))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["rule", "--seed", "3"], "--seed 3: rule draws nothing and has seed 0 alone"),
        (["random", "--seed", "-1"], "--seed -1: from 0 to 4294967295"),
        (["rule", "--homes", "-5"], "--homes -5: say how many"),
    ],
)
def test_the_command_refuses_a_seed_without_chance_and_less_than_no_home(asked, says, elsewhere, capsys):
    assert evaluation.main(asked) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {says}") and error.count("\n") == 1
    assert not list(elsewhere.iterdir())


class Broken(rules.SpreadCharging):
    def act(self, observations):
        return super().act(observations) * float("nan")


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("engine", evaluation.ENGINES)
def test_a_controller_that_returns_a_nan_is_an_error_that_commands_tell(engine, data):
    run("business_as_usual", rules.BusinessAsUsual(), data, (engine,))
    with pytest.raises(EvaluationError, match="returned a NaN at row 0: look at its inputs"):
        run("rule", Broken, data, (engine,))
    assert EvaluationError in learner.ERRORS


def test_a_programme_without_a_solution_is_told_in_one_line(monkeypatch, capsys):
    def fail(*args, **named):
        raise SolverError("HiGHS found no optimum: Infeasible")

    monkeypatch.setattr(paths, "ROOT", paths.LIBRARY.parent)  # for the profile; nothing is written
    monkeypatch.setattr(evaluation, "evaluate_controller", fail)
    assert evaluation.main(["mpc_forecast", "--profile", "test"]) == 1
    assert capsys.readouterr().err.endswith("error: HiGHS found no optimum: Infeasible\n")


def test_gate():
    served = {"ev_departures_met": [0.995, 0.98], "appliance_cycles_served": [1.0, 1.0]}
    lines = [
        ("official", controller, "default", seed, "year", kpi, values[seed], "1", "model")
        for controller, seeds in (("good", [0]), ("uneven", [0, 1]))
        for seed in seeds
        for kpi, values in served.items()
    ]
    rows = pd.DataFrame(lines, columns=evaluation.COLUMNS)
    verdict = evaluation.gate(rows).set_index("controller").passes
    assert verdict["good"] and not verdict["uneven"]  # the worst seed decides
    rows.loc[rows.kpi == "appliance_cycles_served", "value"] = 0.999
    assert not evaluation.gate(rows).passes.any()
    rows.loc[rows.kpi == "appliance_cycles_served", "value"] = np.nan  # a split with no cycle due
    assert evaluation.gate(rows).set_index("controller").passes["good"]
    with pytest.raises(EvaluationError, match="lack"):
        evaluation.gate(rows[rows.kpi == "ev_departures_met"])
