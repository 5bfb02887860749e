"""KPIs beside CityLearn's own, by closed form, and the team reward beside the KPIs."""


import numpy as np
import pandas as pd
import pytest
import torch
from conftest import find

from thesis_lib.community import dataset, kpis, original, splits
from thesis_lib.controllers.rules import SpreadCharging

# our KPI -> CityLearn's, on the whole run
ABSOLUTE = {
    "cost": "district_cost_total_control_eur",
    "emissions": "district_emissions_total_control_kgco2",
    "import": "district_energy_grid_total_import_control_kwh",
    "self_consumption": "district_solar_self_consumption_ratio_self_consumption_ratio",
    "battery_cycles": "district_battery_health_equivalent_full_cycles_count",
    "ev_departures_met": "district_ev_performance_departure_min_acceptable_feasible_ratio",
    "ev_departures_feasible_count": "district_ev_events_departure_min_acceptable_feasible_count",
    "ev_departures_count": "district_ev_events_departure_count",
    "appliance_cycles_served": "district_deferrable_appliance_service_service_level_ratio",
    "appliance_cycles_served_count": "district_deferrable_appliance_service_completed_cycles_count",
}
# CityLearn gives these only as ratios to its own baseline
RATIOS = {
    "ramping": "ramping_average",
    "daily_peak": "peak_daily_average",
    "load_factor_penalty": "load_factor_penalty_daily_average",
    "annual_peak": "peak_all_time_average",
}


def community(start, end):
    from citylearn.citylearn import CityLearnEnv

    schema = str(find("official").schema)
    return CityLearnEnv(schema, central_agent=False, simulation_start_time_step=start, simulation_end_time_step=end)


def policy(name, env):
    if name == "business_as_usual":
        from citylearn.agents.baseline import BusinessAsUsualAgent

        return BusinessAsUsualAgent(env).predict
    if name == "idle":
        return lambda observations: [[0.0] * space.shape[0] for space in env.action_space]
    generator = np.random.default_rng(7)
    return lambda observations: [generator.uniform(space.low, space.high).tolist() for space in env.action_space]


def mismatch(env, trajectory):
    """Largest relative distance of each KPI to CityLearn's."""
    ours = kpis.evaluate(trajectory, kpis.Service.from_citylearn(env))
    ours = ours[ours.split == "year"].set_index("kpi").value
    theirs = original.evaluate_v2(env).value
    distance = {}
    for name, column in ABSOLUTE.items():
        expected = 0.0 if pd.isna(theirs[column]) else theirs[column]
        distance[name] = abs((0.0 if np.isnan(ours[name]) else ours[name]) - expected) / max(abs(expected), 1e-9)
    base = np.asarray(env.net_electricity_consumption_without_storage_and_partial_load, np.float64)[: trajectory.hours]
    idle = kpis.Trajectory(**{**vars(trajectory), "net": np.zeros_like(trajectory.net, np.float64)})
    idle.net[:, 0] = base
    reference = kpis.evaluate(idle, kpis.Service.from_citylearn(env))
    reference = reference[reference.split == "year"].set_index("kpi").value
    for name, column in RATIOS.items():
        expected = theirs[f"district_energy_grid_shape_quality_{column}_to_baseline_ratio"]
        distance[name] = abs(ours[name] / reference[name] - expected) / abs(expected)
    return distance


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("start", [0, 24 * 40])
@pytest.mark.parametrize("name", ["random", "idle", "business_as_usual"])
def test_equal_to_citylearn(name, start):
    env = community(start, start + 24 * 14 - 1)
    trajectory = original.drive(env, policy(name, env))
    distance = mismatch(env, trajectory)
    assert max(distance.values()) < 1e-6, distance
    assert (trajectory.start, trajectory.hours) == (start, 24 * 14 - 1)


@pytest.mark.usefixtures("official")
@pytest.mark.slow
def test_equal_to_citylearn_over_the_year():  # business as usual: in test_rules.py, on the year it rolls there
    env = community(0, 8759)
    distance = mismatch(env, original.drive(env, policy("random", env)))
    assert max(distance.values()) < 1e-6, distance


def test_both_editions(edition):
    """A week of the rule: our KPIs are CityLearn's, cars and appliances are served."""
    env = dataset.load(dataset.find(edition), end=24 * 7)
    run, env = original.rollout(env, SpreadCharging(), progress=False)
    assert max(mismatch(env, run).values()) < 1e-6
    table = kpis.evaluate(run, kpis.Service.from_citylearn(env)).set_index(["split", "kpi"]).value["year"]
    assert table["ev_departures_feasible_count"] > 30 and table["ev_departures_met"] >= 0.99
    assert table["appliance_cycles_due_count"] > 3 and table["appliance_cycles_served"] == 1.0


# Tiny cases whose answers are known.


def tiny(net, start=0, price=0.5, carbon=0.25, **changes):
    """Trajectory of homes x hours with one charger, one car and one appliance that do nothing."""
    net = np.asarray(net, np.float64).T
    hours, homes = net.shape
    arrays = {name: np.zeros((hours, homes)) for name in ("load", "pv", "battery", "battery_soc")} | {
        name: np.zeros((hours, 1)) for name in ("chargers", "car_soc", "appliances")
    }
    arrays |= {"net": net, "price": np.full(net.shape, price), "carbon": np.full(net.shape, carbon)}
    return kpis.Trajectory(**{**arrays, "started": np.full((hours, 1), -1), "start": start, **changes})


def owed(homes=2, sessions=(), cycles=()):
    """Service with a lossless 10 kW charger on a 20 kWh car, so that one hour is half a charge."""
    names = ["charger", "car", "connected_from", "arrival", "departure", "disclosure", "leaves"]
    names += ["arrival_soc", "session_soc", "required_soc"]
    rows = [dict(zip(names, (0, 0, *session), strict=True), home=0) for session in sessions]
    flat = np.array([[0.0, 1.0], [1.0, 1.0]])
    return kpis.Service(
        sessions=pd.DataFrame(rows, columns=kpis._SESSION_COLUMNS),
        cycles=pd.DataFrame(cycles, columns=kpis._CYCLE_COLUMNS),
        battery_capacity=np.full(homes, 4.0),
        charger_power=np.array([10.0]),
        charger_power_min=np.array([0.0]),
        charger_curve=[flat],
        car_capacity=np.array([20.0]),
        car_power=np.array([50.0]),
        car_power_curve=[flat],
        car_efficiency_curve=[flat],
        tolerance=0.05,
        step_hours=1.0,
    )


def value(table, kpi, split="year"):
    rows = table[(table.split == split) & (table.kpi == kpi)]
    assert len(rows) == 1
    return rows.value.iloc[0]


def test_flows_by_hand():
    #             hour  0    1     2    3
    run = tiny(
        [[1.0, -2.0, 3.0, 0.0], [1.0, 1.0, -1.0, -4.0]],
        pv=np.full((4, 2), 1.0),
        battery=np.full((4, 2), -1.0),
    )
    table = kpis.evaluate(run, owed())
    assert value(table, "cost") == pytest.approx(0.5 * (1 + 3 + 1 + 1))  # clipped home by home
    assert value(table, "emissions") == pytest.approx(0.25 * 6)
    assert value(table, "import") == pytest.approx(2 + 2)  # district 2, -1, 2, -4
    assert value(table, "ramping") == pytest.approx(3)  # only -1 -> 2 goes up
    assert value(table, "daily_peak") == 2 and value(table, "annual_peak") == 2
    assert value(table, "load_factor_penalty") == pytest.approx(1 - (-1 / 4) / 2)
    assert value(table, "self_consumption") == pytest.approx(
        (8 - (1 + 2)) / 8
    )  # exports of 1 and 4, at most the PV's 2
    assert value(table, "battery_cycles") == pytest.approx(8 / (2 * 8))


def test_days_peaks_and_ramps_go_to_their_split():
    names = splits.split_of_rows()
    first = splits.blocks("validation")[0][0]
    net = np.zeros((2, 72))
    net[0, 24] = 6.0  # first hour of the validation days, ramped up from the last train hour
    net[0, 30] = 9.0
    run = tiny(net, start=first - 24)
    table = kpis.evaluate(run, owed())
    assert set(names[run.rows]) == {"train", "validation"} and set(table.split) == {
        "train",
        "validation",
        "year",
    }
    assert value(table, "ramping", "train") == 0 and value(table, "ramping", "validation") == 15
    assert value(table, "daily_peak", "validation") == pytest.approx(9 / 2)
    assert value(table, "daily_peak", "year") == pytest.approx(9 / 3)
    assert value(table, "annual_peak", "train") == 0


def test_splits_add_up_to_the_year():
    generator = np.random.default_rng(0)
    run = tiny(generator.normal(size=(2, 8759)))
    table = kpis.evaluate(run, owed())
    for kpi in ("cost", "emissions", "import", "ramping"):
        assert sum(value(table, kpi, split) for split in splits.SPLITS) == pytest.approx(value(table, kpi))


def test_weeks_add_up_to_their_split():
    run = tiny(np.random.default_rng(0).normal(1, 1, size=(2, 8759)))
    whole, weeks = kpis.evaluate(run, owed()), kpis.weekly(run, owed()).set_index(["kpi", "week"]).value
    assert sorted(weeks.index.unique("kpi")) == sorted(kpis.WEIGHTS) and len(weeks) == 5 * 12
    for kpi in ("cost", "emissions", "import", "ramping"):
        assert weeks[kpi].sum() == pytest.approx(value(whole, kpi, "test"))
    assert weeks["daily_peak"].mean() == pytest.approx(value(whole, "daily_peak", "test"))
    assert kpis.weekly(run, owed(), "validation").value.sum() != weeks.sum()


def test_a_week_that_is_not_whole_is_left_out():
    start, stop = splits.blocks("test")[0]
    run = tiny(np.ones((2, stop - start + 24)), start=start - 24)
    assert list(kpis.weekly(run, owed()).week.unique()) == [0]
    assert kpis.weekly(tiny(np.ones((2, 72)), start=start), owed()).empty


def test_departures_by_hand():
    soc = np.zeros((10, 1))
    soc[3], soc[6], soc[9] = 0.95, 0.94, 0.9
    run = tiny(np.zeros((2, 10)), car_soc=soc)
    sessions = [
        # connected, arrival, departure, disclosure, leaves, soc, soc, required
        (0, 0, 3, 0, True, 0.0, 0.0, 1.0),  # feasible (two hours suffice), met at 0.95
        (5, 5, 6, 5, True, 0.0, 0.0, 1.0),  # feasible, missed by a hundredth
        (8, 8, 9, 9, True, 0.0, 0.0, 0.9),  # feasible in two hours, but disclosed with one left: met by luck
    ]
    table = kpis.evaluate(run, owed(sessions=sessions))
    assert value(table, "ev_departures_feasible_count") == 3 and value(table, "ev_departures_met_count") == 2
    assert value(table, "ev_departures_met") == pytest.approx(2 / 3)
    assert value(table, "ev_departures_feasible_causal_count") == 2
    assert value(table, "ev_departures_met_causal") == pytest.approx(1 / 2)


def test_infeasible_departures_do_not_count():
    run = tiny(np.zeros((2, 4)))
    sessions = [(0, 0, 0, 0, True, 0.0, 0.0, 0.6), (2, 2, 2, 2, True, 0.0, 0.0, 0.55)]
    table = kpis.evaluate(run, owed(sessions=sessions))
    assert value(table, "ev_departures_feasible_count") == 1  # one hour gives 0.5, which is 0.55 less the tolerance
    assert value(table, "ev_departures_count") == 2 and value(table, "ev_departures_met") == 0


def test_unknown_arrival_soc_is_the_cars_own():
    soc = np.full((6, 1), 0.0)
    soc[2] = 0.5  # where the car drifted to before it came back at hour 3
    sessions = [(3, 3, 3, 3, True, np.nan, np.nan, 1.0)]
    table = kpis.evaluate(tiny(np.zeros((2, 6)), car_soc=soc), owed(sessions=sessions))
    assert value(table, "ev_departures_feasible_count") == 1
    table = kpis.evaluate(tiny(np.zeros((2, 6))), owed(sessions=sessions))
    assert value(table, "ev_departures_feasible_count") == 0


def test_cycles_by_hand():
    # earliest, latest, deadline, duration: served; missed; running at the end; still pending at the end
    windows = [(0, 1, 2, 2), (3, 4, 5, 1), (6, 8, 10, 3), (9, 9, 9, 1)]
    cycles = [(0, index, *window, 1.0) for index, window in enumerate(windows)]
    started = np.full((10, 1), -1)
    started[1], started[8] = 0, 2
    table = kpis.evaluate(tiny(np.zeros((2, 10)), started=started), owed(cycles=cycles))
    assert value(table, "appliance_cycles_served_count") == 1 and value(table, "appliance_cycles_due_count") == 2
    assert value(table, "appliance_cycles_served") == 0.5


def test_composite():
    generator = np.random.default_rng(1)
    net = generator.normal(size=(2, 48))
    run, double = tiny(net), tiny(2 * net)
    reference = kpis.evaluate(run, owed())
    assert value(kpis.evaluate(run, owed(), reference), "composite_vs_bau") == pytest.approx(1.0)
    assert value(kpis.evaluate(double, owed(), reference), "composite_vs_bau") == pytest.approx(2.0)
    cheap = kpis.evaluate(tiny(net, price=0.25), owed(), reference)
    assert value(cheap, "composite_vs_bau") == pytest.approx(1 - 0.25 / 2)
    with pytest.raises(ValueError, match="business_as_usual"):
        kpis.evaluate(run, owed(), reference[reference.kpi != "cost"])


def test_bad_runs_are_refused():
    net = np.zeros((2, 5))
    with pytest.raises(ValueError, match="homes"):
        kpis.evaluate(tiny(net), owed(homes=3))
    net[0, 2] = np.nan
    with pytest.raises(ValueError, match="NaN in net"):
        kpis.evaluate(tiny(net), owed())


def test_trajectory_survives_a_file(tmp_path):
    run = tiny(np.arange(10.0).reshape(2, 5), start=7)
    run.save(tmp_path / "run.npz")
    again = kpis.Trajectory.load_from(tmp_path / "run.npz")
    assert again.start == 7 and all(np.array_equal(getattr(run, name), getattr(again, name)) for name in vars(run))
    assert [file.name for file in tmp_path.iterdir()] == ["run.npz"]


# The team reward.


def rewarded(run):
    """Inputs of the reward, hour by hour: every hour of the run is one copy of the batch."""
    net = torch.from_numpy(run.net)
    district = net.sum(1)
    start = torch.from_numpy(run.rows % 24 == 0)
    start[0] = True
    peak = torch.zeros(run.hours, dtype=torch.float64)
    for hour in range(1, run.hours):
        peak[hour] = district[hour - 1] if start[hour - 1] else max(peak[hour - 1], district[hour - 1])
    imported = net.clamp(min=0)
    return (
        net,
        imported * torch.from_numpy(run.price),
        imported * torch.from_numpy(run.carbon),
        torch.cat([district[:1], district[:-1]]),
        peak,
        start,
    )


def test_reward_sums_to_the_kpis():
    run = tiny(np.random.default_rng(2).normal(0.3, 1.0, size=(2, 24 * 5)))
    table = kpis.evaluate(run, owed())
    scale = dict.fromkeys(kpis.WEIGHTS, 1.0)
    for term in kpis.WEIGHTS:
        total = -kpis.team_reward(*rewarded(run), scale, {term: 1.0}).sum().item()
        expected = value(table, term) * (5 if term == "daily_peak" else 1)
        assert total == pytest.approx(expected, rel=1e-12), term


def test_reward_of_the_reference_is_minus_one():
    run = tiny(np.random.default_rng(3).normal(0.3, 1.0, size=(2, 24 * 20)))
    train = splits.split_of_rows()[run.rows] == "train"
    assert 0 < train.sum() < run.hours
    reward = kpis.team_reward(*rewarded(run), kpis.reward_scale(run))
    assert reward.shape == (run.hours,)
    assert reward[torch.from_numpy(train)].mean().item() == pytest.approx(-1.0)


def test_reward_is_the_composite():
    """Over whole days, minus the mean reward is the composite over the reference."""
    generator = np.random.default_rng(4)
    bau, run = (tiny(generator.normal(0.3, 1.0, size=(2, 24 * 10))) for _ in range(2))
    table = kpis.evaluate(run, owed(), kpis.evaluate(bau, owed()))
    reward = kpis.team_reward(*rewarded(run), kpis.reward_scale(bau, split=None))
    assert -reward.mean().item() == pytest.approx(value(table, "composite_vs_bau"))


def test_individual_rewards():
    run = tiny(np.random.default_rng(5).normal(0.3, 1.0, size=(2, 48)))
    net, cost, emissions, _, _, start = rewarded(run)
    scale = kpis.reward_scale(run)
    zeros = torch.zeros_like(net)
    money = {"cost": 0.6, "emissions": 0.4}
    own = kpis.individual_reward(net, cost, emissions, zeros, zeros, start, scale, money)
    team = kpis.team_reward(net, cost, emissions, zeros[:, 0], zeros[:, 0], start, scale, money)
    assert own.shape == (48, 2)
    assert torch.allclose(own.mean(1), team)
    whole = kpis.individual_reward(net, cost, emissions, zeros, zeros, start, scale)
    poorer = kpis.individual_reward(net, cost + torch.tensor([0.0, 1.0]), emissions, zeros, zeros, start, scale)
    assert torch.equal(whole[:, 0], poorer[:, 0]) and (poorer[:, 1] < whole[:, 1]).all()


def test_reward_is_differentiable():
    run = tiny(np.random.default_rng(6).normal(0.3, 1.0, size=(2, 48)))
    net, cost, emissions, previous, peak, start = rewarded(run)
    hours = slice(1, 7)  # not the first, which sits on the kink of its ramp
    net = net[hours].clone().requires_grad_()
    scale = kpis.reward_scale(run)

    def reward(net):
        bill = net.clamp(min=0)
        return kpis.team_reward(net, bill * 0.5, bill * 0.2, previous[hours], peak[hours], start[hours], scale)

    assert torch.autograd.gradcheck(reward, net)
