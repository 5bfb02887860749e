"""The linear programme beside brute force, its controllers' promises, no leak, and the bound below every controller."""

import copy
import itertools
import json

import numpy as np
import pytest
import torch
from conftest import find, model

from thesis_lib import paths
from thesis_lib.analysis import evaluation, optimum
from thesis_lib.community import dataset, kpis
from thesis_lib.community.kpis import WEIGHTS, Service, evaluate
from thesis_lib.community.model import FLOATS
from thesis_lib.community.observations import Observer
from thesis_lib.community.splits import blocks, split_of_rows
from thesis_lib.config import load_config
from thesis_lib.controllers import CONTROLLERS, forecast, linear, mpc, rules

SCALE = {"cost": 0.2, "emissions": 0.3, "ramping": 1.0, "daily_peak": 2.0, "import": 1.5}
HOURS = 4


def toy_devices(kept: float = 1.0) -> linear.Devices:
    """One home: a battery of 2 kWh and 1 kW, a car of 4 kWh at a charger of 2 kW, an appliance."""

    def one(value: float) -> np.ndarray:
        return np.array([value])

    return linear.Devices(
        battery_power=one(1.0),
        battery_capacity=one(2.0),
        battery_floor=one(0.0),
        battery_charge_kept=one(kept),
        battery_discharge_kept=one(kept),
        limit_intercept=one(9.0),
        limit_slope=one(0.0),
        charge_power=one(2.0),
        discharge_power=one(0.0),
        car_capacity=one(4.0),
        car_floor=one(0.0),
        car_charge_kept=one(1.0),
        car_discharge_kept=one(1.0),
        charger_home=np.array([0]),
        appliance_home=np.array([0]),
    )


def toy_window(rng: np.random.Generator, **changes) -> linear.Window:
    column = (HOURS, 1)
    values = {
        "net": rng.integers(-3, 4, column) * 1.0,
        "price": rng.integers(1, 5, column) / 10,
        "carbon": rng.integers(1, 5, column) / 10,
        "day": np.array([0, 0, 1, 1]),
        "plugged": np.zeros(column, bool),
        "idle": np.zeros(1, bool),
        "origin": np.full(column, -2),
        "factor": np.ones(column),
        "given": np.zeros(column),
        "at_most": np.zeros(column, bool),
        "need": np.zeros(column),
        "battery_energy": np.array([1.0]),
        "car_energy": np.array([0.0]),
        "previous": 0.5,
        "peak": 1.0,
        "tie": 0.0,
    }
    return linear.Window(**values | changes)


def solved(devices: linear.Devices, window: linear.Window, scale: dict[str, float] = SCALE) -> linear.Plan:
    programme, solver = linear.Programme(devices, window, scale), linear.solver()
    programme.pass_to(solver)
    linear.run(solver)
    return programme.read(solver)


def composite(window: linear.Window, net: np.ndarray, scale: dict[str, float] = SCALE) -> float:
    """The objective by the formulas of docs/protocol.md, of one home's net (K,)."""
    bought = np.clip(net, 0, None)
    first = max(net[window.day == 0].max(), window.peak)
    terms = {
        "cost": (bought * window.price[:, 0]).sum(),
        "emissions": (bought * window.carbon[:, 0]).sum(),
        "ramping": np.clip(np.diff(net, prepend=window.previous), 0, None).sum(),
        "daily_peak": first + net[window.day == 1].max(),
        "import": bought.sum(),
    }
    return sum(weight * terms[term] / scale[term] for term, weight in WEIGHTS.items())


@pytest.mark.parametrize("seed", range(4))
def test_the_programme_finds_what_trying_everything_finds(seed):
    """Its plan is possible and worth what it says, and none of the 9^4 plans in quarters of a kWh is better."""
    window = toy_window(np.random.default_rng(seed))
    plan = solved(toy_devices(), window)
    energy = 1.0 + plan.battery[:, 0].cumsum()
    assert np.abs(plan.battery).max() <= 1 + 1e-9 and energy.min() >= -1e-9 and energy.max() <= 2 + 1e-9
    assert plan.objective == pytest.approx(composite(window, window.net[:, 0] + plan.battery[:, 0]), abs=1e-9)
    choices = np.array(list(itertools.product(np.linspace(-1, 1, 9), repeat=HOURS)))
    energy = 1.0 + choices.cumsum(1)
    choices = choices[((energy >= 0) & (energy <= 2)).all(1)]
    assert plan.objective <= min(composite(window, window.net[:, 0] + choice) for choice in choices) + 1e-9


def test_losses_cars_and_appliances_by_hand():
    """A kWh must reach the car by hour 1, the first hour is the cheaper; the cycle starts where it is cheapest."""
    nothing = {"ramping": 1e9, "daily_peak": 1e9, "import": 1e9, "emissions": 1e9, "cost": 1.0}
    cheap_first = np.array([[0.1], [0.4], [0.2], [0.3]])
    need = np.zeros((HOURS, 1))
    need[1] = 1.0
    plugged = np.array([[True], [True], [False], [False]])
    window = toy_window(
        np.random.default_rng(0),
        net=np.zeros((HOURS, 1)),
        price=cheap_first,
        plugged=plugged,
        origin=np.array([[-1], [0], [-2], [-2]]),
        need=need,
        battery_energy=np.array([0.0]),
        starts=[linear.Start(0, 0, hour, np.array([1.0])) for hour in (1, 2, 3)],
    )
    plan = solved(toy_devices(kept=0.5), window, nothing)  # a battery that loses three quarters is no use
    assert np.allclose(plan.chargers[:, 0], [1, 0, 0, 0], atol=1e-6) and np.allclose(plan.battery, 0, atol=1e-6)
    assert plan.starts == pytest.approx([0, 1, 0], abs=1e-6) and plan.lacking.max() < 1e-9
    assert plan.objective == pytest.approx(0.25 * (0.1 + 0.2), abs=1e-6)
    # lossless, the battery carries what is cheap at first to the cycle's hour; the rest is too far
    plan = solved(toy_devices(), window, nothing)
    assert plan.objective == pytest.approx(0.25 * (0.1 + 0.1), abs=1e-6)
    # a car cannot be given more than its charger's power: what lacks is said
    need[1] = 4.5
    assert solved(toy_devices(), window, nothing).lacking[1, 0] == pytest.approx(0.5, abs=1e-6)


def test_free_boundaries_and_hours_that_do_not_count():
    window = toy_window(np.random.default_rng(1), net=np.full((HOURS, 1), 1.0))
    free = toy_window(
        np.random.default_rng(1),
        net=np.full((HOURS, 1), 1.0),
        battery_energy=None,
        previous=None,
        peak=-np.inf,
        counted=np.array([False, False, True, True]),
    )
    fixed, chosen = solved(toy_devices(), window), solved(toy_devices(), free)
    assert abs(chosen.objective) < 1e-9 < fixed.objective  # 2 kWh cover the two hours that count
    assert np.allclose(chosen.battery[2:, 0], -1, atol=1e-6)


def test_the_basis_of_an_hour_ago_changes_no_plan():
    one, two = (toy_window(np.random.default_rng(seed), tie=linear.TIE) for seed in (2, 3))
    solver, cold = linear.solver(solver="simplex"), solved(toy_devices(0.9), two)
    programme = linear.Programme(toy_devices(0.9), one, SCALE)
    programme.pass_to(solver)
    linear.run(solver)
    later = linear.Programme(toy_devices(0.9), two, SCALE)
    basis = solver.getBasis()
    later.pass_to(solver)
    later.begin_from(solver, programme, basis)
    linear.run(solver)
    assert later.read(solver).objective == pytest.approx(cold.objective, abs=1e-9)


def test_an_impossible_programme_is_told():
    window = toy_window(np.random.default_rng(0), battery_energy=np.array([5.0]))  # holds 2, gives 1 an hour
    with pytest.raises(linear.SolverError, match="no optimum"):
        solved(toy_devices(), window)
    with pytest.raises(linear.SolverError, match="no option"):
        linear.solver(speed="high")
    with pytest.raises(ValueError, match="horizon must be at least 2"):
        mpc.MpcPerfect(horizon=1)


def test_best_efficiencies_are_no_worse(edition):
    usual, best = linear.devices(model(edition)), linear.devices(model(edition), None)
    for name in ("battery_charge_kept", "battery_discharge_kept", "car_charge_kept", "car_discharge_kept"):
        assert (getattr(best, name) >= getattr(usual, name) - 1e-12).all() and (getattr(best, name) < 1).all()
    # the physics itself never keeps more than the best: a full-range sweep of one hour's charging
    c = model(edition)
    for action in np.linspace(0.02, 1, 25):
        state = c.reset(1, 0, 2, battery_soc=0.3)
        actions = torch.zeros(1, c.homes, c.slots, dtype=c.dtype)
        actions[:, torch.arange(c.homes), c.battery_slot % c.slots] = action
        after, flows = c.step(state, actions)
        stored = (after.soc - state.soc)[0, : c.homes].numpy() * best.battery_capacity
        assert (stored <= flows.battery[0].numpy() * best.battery_charge_kept + 1e-5).all()


@pytest.fixture(scope="module")
def service():
    env = dataset.load(find("official"))
    env.reset()
    return Service.from_citylearn(env)


@pytest.mark.parametrize("name", ["mpc_forecast", "mpc_perfect"])
def test_departures_and_cycles_are_served(name, service):
    """Four days of a test week and its eve, in the fast model: what can be met is met, and the team pays less."""
    c, start, hours = model("official"), blocks("test")[2][0] - 24, 4 * 24
    run = evaluation.simulate(c, CONTROLLERS[name](), start, hours)
    met = kpis.departures(run, service)
    promised = met.feasible if name == "mpc_perfect" else met.causal
    assert promised.sum() > 15 and met.met[promised].all()
    usual = evaluation.simulate(c, rules.BusinessAsUsual(), start, hours)
    reference = evaluate(usual, service)
    table = evaluate(run, service, reference).set_index(["split", "kpi"]).value
    assert table["test", "appliance_cycles_served"] == 1.0
    assert table["test", "composite_vs_bau"] < 0.8


@pytest.mark.parametrize("name", ["mpc_forecast", "mpc_perfect"])
def test_the_last_hours_of_the_data_are_planned_too(name):
    """Both controllers in the generated edition, whose horizon ends with the data."""
    c = model("offline")
    controller = CONTROLLERS[name]()
    run = evaluation.simulate(c, controller, c.rows - 4, 3)
    assert run.hours == 3 and np.isfinite(run.net).all() and len(controller.seconds) == 3


def test_departures_are_those_that_citylearn_counts(service):
    _, leaves = mpc.departures(model("official"))
    counted = set(zip(service.sessions.departure, service.sessions.charger, strict=True))
    assert set(zip(*np.nonzero(leaves), strict=True)) == counted


def blanked(community, after: int, value: float):
    """The community with every test row after ``after`` changed: all but the price, and what standby keeps of a car's
    SOC, which is a constant."""
    changed = copy.copy(community)
    changed.table = community.table.clone()
    rows = np.flatnonzero((split_of_rows() == "test") & (np.arange(community.rows) > after))
    ends = np.cumsum(community.widths)
    spans = {name: range(end - width, end) for name, width, end in zip(FLOATS, community.widths, ends, strict=True)}
    kept = {spans["market"][int(community.price_column[0])], *spans["keep"]}
    columns = [k for k in range(community.table.shape[1]) if k not in kept]
    changed.table[np.ix_(rows, columns)] = value
    return changed


def actions_of(controller, community, start: int, hours: int) -> torch.Tensor:
    state, observer, taken = community.reset(1, start, hours), Observer(community), []
    controller.reset(community)
    with torch.no_grad():
        for _ in range(hours):
            taken.append(controller.act(observer(state)))
            state, _ = community.step(state, taken[-1])
    return torch.cat(taken)


def test_the_forecaster_knows_no_test_row_and_no_future():
    c, start, hours = model("official"), blocks("test")[3][0] - 3, 7
    last = start + hours - 1
    before = actions_of(mpc.MpcForecast(), c, start, hours)
    for value in (float("nan"), 0.7):
        assert torch.equal(actions_of(mpc.MpcForecast(), blanked(c, last, value), start, hours), before)
    # the same test catches a controller that looks ahead
    perfect = actions_of(mpc.MpcPerfect(), c, start, hours)
    assert not torch.equal(actions_of(mpc.MpcPerfect(), blanked(c, last, 0.7), start, hours), perfect)


def test_forecasts_beat_the_usual_day_on_rows_they_never_saw():
    c = model("official")
    made = forecast.forecasters(c, 24, 23)["load"]
    load = c.read(torch.arange(c.rows)).load.numpy()
    errors = []
    for row in np.flatnonzero(split_of_rows() == "validation")[24::97]:
        seen = made(int(row), load[row - np.arange(24)], 3)
        assert seen.shape == (3, c.homes) and (seen >= 0).all()
        errors.append(
            [np.abs(p - load[row + 1 : row + 4]).mean() for p in (seen, made.usual_at(row + 1 + np.arange(3)))]
        )
    mine, usual = np.mean(errors, 0)
    assert mine < usual
    assert np.array_equal(made(100, load[100:99:-1], 5), made(100, load[100:99:-1], 5))
    with pytest.raises(ValueError, match="shorter horizon"):
        forecast.fit(load[:30], 24, 24, 23)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


def test_the_bound_is_below_every_controller_and_its_rows_say_what_it_is(elsewhere):
    """Three days: bound <= replay, perfect and forecast MPC, the rules; no service is claimed for the bound."""
    data, end = find("official"), 72
    config = load_config(paths.LIBRARY.parent / "configs" / "test.yaml", engines=["model"], edition="official")
    common = {"end": end, "progress": False}
    with pytest.raises(evaluation.EvaluationError, match="evaluate business_as_usual first"):
        optimum.evaluate_optimum(config, data, end=end)
    for name in ("business_as_usual", "rule", "mpc_perfect"):
        evaluation.evaluate_controller(name, "default", 0, CONTROLLERS[name], data, "test", ("model",), **common)
    rows = optimum.evaluate_optimum(config, data, end=end)
    bound = rows[rows.variant == "bound"]
    assert set(bound.engine) == {"lp"} and set(bound.kpi) == {*WEIGHTS, "composite_vs_bau"}
    table = evaluation.collect("test")
    year = table[(table.split == "year") & (table.kpi == "composite_vs_bau")].set_index(["controller", "variant"]).value
    least = year["optimum", "bound"]
    assert 0.2 < least < year["mpc_perfect", "default"] < year["rule", "default"] < 1
    assert least < year["optimum", "replay"] < year["rule", "default"]
    gate = evaluation.gate(table)
    assert gate.passes.all() and "bound" not in set(gate.variant)
    record = json.loads((paths.run("test", "official", "mpc_perfect", "default", 0) / "run.json").read_text())
    times = record["decision_seconds"]["model"]
    assert times["count"] == end and 0 < times["p50"] <= times["p95"] <= times["max"]
    # made once
    written = (paths.run("test", "official", "optimum", "bound", 0) / "run.json").stat().st_mtime_ns
    optimum.evaluate_optimum(config, data, end=end)
    assert (paths.run("test", "official", "optimum", "bound", 0) / "run.json").stat().st_mtime_ns == written


def test_every_file_of_a_controller_is_in_its_recipe(monkeypatch):
    data = find("official")
    seen = []
    monkeypatch.setattr(evaluation, "recipe", lambda settings, files: seen.append({f.name for f in files}) or "")
    for name in ("mpc_forecast", "mpc_perfect"):
        evaluation.recipe_of(name, 0, data, ["model"])
    assert all({"mpc.py", "linear.py", "forecast.py", "guard.py", "model.py", "rules.py"} <= files for files in seen)
