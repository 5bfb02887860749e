"""Every controller of the registry, and each rule beside what it imitates or promises."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thesis_lib.community import dataset, kpis, original
from thesis_lib.community.model import Community
from thesis_lib.community.observations import Observer, column, from_lists, to_lists
from thesis_lib.controllers import CONTROLLERS, Controller, rules

from test_kpis import mismatch  # isort: skip
from test_model import load as load_schema, write_schema  # isort: skip

pytestmark = pytest.mark.usefixtures("official")


@pytest.fixture(scope="module")
def env():
    loaded = dataset.load(dataset.find("official"), end=24 * 14)
    loaded.reset()
    return loaded


@pytest.fixture(scope="module")
def community(env):
    return Community.from_citylearn(env, dtype=torch.float64)


def roll(community, controller, hours, batch=1, start=0):
    """Fast model: the flows, actions and observations of each hour."""
    state, observer = community.reset(batch, start, hours), Observer(community)
    controller.reset(community)
    seen = []
    with torch.no_grad():
        for _ in range(hours):
            observations = observer(state)
            actions = controller.act(observations)
            state, flows = community.step(state, actions)
            seen.append((observations, actions, flows))
    return seen


def hours_of(name, hours):
    """Those that solve a programme every hour are tried on fewer."""
    return min(hours, 8) if name.startswith("mpc") else hours


@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_controller_keeps_the_protocol(name, community):
    controller, hours = CONTROLLERS[name](), hours_of(name, 30)
    assert isinstance(controller, Controller)
    for observations, actions, _ in roll(community, controller, hours, batch=3, start=torch.tensor([0, 50, 100])):
        assert actions.shape == (len(observations), community.homes, community.slots) and actions.dtype == torch.float64
        assert (actions >= community.action_low).all() and (actions <= community.action_high).all()
        assert (actions[:, ~community.action_mask] == 0).all()
    again = [actions for _, actions, _ in roll(community, controller, hours, batch=3, start=torch.tensor([0, 50, 100]))]
    assert torch.equal(again[-1], actions), "reset must begin the same episode again"


@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_controller_works_in_single_precision(name, env, community):
    single = Community.from_citylearn(env)
    pairs = zip(roll(single, CONTROLLERS[name](), 12), roll(community, CONTROLLERS[name](), 12), strict=True)
    for (_, actions, _), (_, exact, _) in pairs:
        assert actions.dtype == torch.float32
        assert torch.allclose(actions.double(), exact, atol=1e-4)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_copies_do_not_see_each_other(name, community):
    if name == "random":
        pytest.skip("draws a number for every copy")
    controller, hours = CONTROLLERS[name](), hours_of(name, 48)
    pair = [actions for _, actions, _ in roll(community, controller, hours, batch=2, start=torch.tensor([24, 100]))]
    alone = [actions for _, actions, _ in roll(community, controller, hours, start=100)]
    assert all(torch.allclose(both[1:], one, atol=1e-12) for both, one in zip(pair, alone, strict=True))


@pytest.mark.parametrize("name", CONTROLLERS)
def test_constructors_have_defaults(name):
    parameters = inspect.signature(CONTROLLERS[name]).parameters.values()
    assert all(p.default is not inspect.Parameter.empty for p in parameters if p.kind is not p.VAR_POSITIONAL)


def agreement(env, community):
    """Step CityLearn with its own agent; largest distance of our actions to its, and how many cycles it starts."""
    from citylearn.agents.baseline import BusinessAsUsualAgent

    agent, controller = BusinessAsUsualAgent(env), rules.BusinessAsUsual()
    controller.reset(community)
    appliance = env.buildings[0].deferrable_appliances[0]
    distance, starts = [], 0

    def act(observations):
        nonlocal starts
        theirs = agent.predict(observations)
        seen = from_lists(community, observations)
        ours = to_lists(community, controller.act(seen))
        assert controller._appliances(seen)[1].item() == appliance.preview_start_energy_kwh(theirs[0][2])
        distance.append(max(np.abs(np.subtract(a, b)).max() for a, b in zip(ours, theirs, strict=True)))
        starts += theirs[0][2] > 0.5
        return theirs

    return original.drive(env, act), distance, starts


@pytest.fixture(scope="module")
def year():
    return Community.from_citylearn(dataset.load(dataset.find("official")), dtype=torch.float64)


@pytest.mark.parametrize("start", [0, 24 * 59])
def test_business_as_usual_is_citylearns_agent(start, year):
    env = dataset.load(dataset.find("official"), start=start, end=start + 24 * 14)
    _, distance, starts = agreement(env, year)
    assert len(distance) == 24 * 14 and starts > 10
    assert max(distance) == 0.0


@pytest.mark.slow
def test_business_as_usual_is_citylearns_agent_over_the_year(year):
    env = dataset.load(dataset.find("official"))
    run, distance, starts = agreement(env, year)
    assert len(distance) == 8759 and starts == 365
    assert max(distance) == 0.0
    assert max(mismatch(env, run).values()) < 1e-6


def test_charge_on_arrival(community):
    for observations, actions, _ in roll(community, rules.ChargeOnArrival(), 72):
        assert (actions[:, :, 0] == 0).all()  # slot 0 is each home's battery
        for charger, home in enumerate(community.charger_home.tolist()):
            name = f"electric_vehicle_charger_{community.charger_names[charger]}_connected_state"
            connected = observations[0, home, column(community, home, name)]
            assert actions[0, home, community.charger_slot[charger]] == connected


def departures(env, controller):
    """Share of the feasible departures met by a controller in CityLearn, and SOC above the required one."""
    run, stepped = original.rollout(env, controller, progress=False)
    service = kpis.Service.from_citylearn(stepped)
    table = kpis.evaluate(run, service).set_index(["split", "kpi"]).value
    s = service.sessions[service.sessions.leaves & (service.sessions.arrival_soc < service.sessions.required_soc)]
    return table["year", "ev_departures_met"], (run.car_soc[s.departure, s.car] - s.required_soc).to_numpy()


def test_rule_charges_what_is_needed_and_no_more(env):
    met, surplus = departures(env, rules.SpreadCharging())
    assert met >= 0.99
    assert np.median(np.abs(surplus)) < 0.005  # the SOC asked for, not a full battery
    met, surplus = departures(env, rules.BusinessAsUsual())
    assert met >= 0.99 and np.median(surplus) > 0.05


def test_rule_spreads(community):
    """Away from the charger's least power, a car's charging hardly changes from hour to hour."""
    slot, home = community.charger_slot.tolist(), community.charger_home.tolist()
    charger = community.charger_names.index("charger_5_1")
    powers = [a[0, home[charger], slot[charger]].item() for _, a, _ in roll(community, rules.SpreadCharging(), 120)]
    hours = [p for p in powers if p > 0]
    assert len(hours) > 20 and max(hours) < 1.0
    steps = [abs(b / a - 1) for a, b in zip(powers, powers[1:], strict=False) if a > 0 and b > 0]
    assert np.median(steps) < 0.01


@pytest.mark.parametrize("settings", [{"hidden_hours": 0.0}, {"hidden_hours": float("nan")}])
def test_rule_refuses_impossible_settings(settings):
    with pytest.raises(ValueError, match="hidden_hours must be"):
        rules.SpreadCharging(**settings)


def test_random_is_uniform_and_seeded(community):
    actions = torch.cat([a for _, a, _ in roll(community, rules.Random(3), 40)])
    other = torch.cat([a for _, a, _ in roll(community, rules.Random(4), 40)])
    assert not torch.equal(actions, other)
    inside = actions[:, :, 0]
    assert inside.min() < -0.9 and inside.max() > 0.9 and abs(inside.mean()) < 0.1


def test_a_home_without_a_battery_is_ruled_as_citylearns_agent_does(tmp_path: Path) -> None:
    def change(schema: dict[str, Any]) -> None:
        del schema["buildings"]["Building_15"]["electrical_storage"]
        schema["buildings"]["Building_15"]["inactive_actions"] = ["electrical_storage"]

    from citylearn.agents.baseline import BusinessAsUsualAgent

    env = load_schema(write_schema(tmp_path / "community", change), end=48)
    observations, _ = env.reset()
    agent, rule = BusinessAsUsualAgent(env), rules.BusinessAsUsual()
    community = Community.from_citylearn(env, dtype=torch.float64)
    rule.reset(community)
    while not env.terminated:
        expected = agent.predict([])
        assert to_lists(community, rule.act(from_lists(community, observations))) == expected
        observations, *_ = env.step(expected)
