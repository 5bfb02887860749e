"""The household's habits, and how the actors depart from them."""

from __future__ import annotations

import pytest
import torch
from conftest import model
from test_training import config
from toy_world import ToyWorld

from thesis_lib.community.model import Community
from thesis_lib.config import load_config
from thesis_lib.controllers.habits import Habits
from thesis_lib.controllers.rules import BusinessAsUsual
from thesis_lib.maddpg.networks import Policy, _raised
from thesis_lib.maddpg.training import CommunityWorld, Run, build_policy


@pytest.fixture(scope="module")
def world() -> CommunityWorld:
    return CommunityWorld(model("official", torch.float32), BusinessAsUsual())


def policy_of(world: CommunityWorld, **overrides: object) -> Policy:
    """A policy whose actors say nothing: habits alone, once each."""
    settings = config(**{"habits": True, "guard": True, **overrides})
    household = world.make_household(world.guard_settings(settings))
    shape = (world.community.homes, max(map(len, world.observation_names)))
    policy = build_policy(settings, world, household, torch.zeros(shape), torch.ones(shape))
    with torch.no_grad():
        policy.actors.weights[-1].zero_()
    return policy


def test_habits_alone_are_a_rule_that_serves_and_saves(world: CommunityWorld) -> None:
    score = world.validate(policy_of(world))
    assert score["passes"] == 1.0 and score["composite"] < 0.86


def test_an_untrained_policy_is_the_controller_of_that_name(world: CommunityWorld) -> None:
    policy = policy_of(world)
    alone = Habits(tolerance=world.guard_settings(config())["tolerance"])
    assert Habits().tolerance == load_config("thesis").train["guard_tolerance"]
    alone.reset(world.community)
    state, window = world.draw(256, 30, torch.Generator().manual_seed(3))
    for hour in window[:-1]:
        observations = world.observe(state, hour)
        with torch.no_grad():
            actions = policy(observations)
            torch.testing.assert_close(alone.act(observations), actions, rtol=0, atol=1e-6)
            state, _ = world.step(state, actions, hour)
    assert actions.abs().mean() > 0.01


def test_without_habits_and_guard_such_actors_do_nothing(world: CommunityWorld) -> None:
    policy = policy_of(world, habits=False, guard=False)
    state, window = world.draw(8, 1, torch.Generator().manual_seed(0))
    actions = policy(world.observe(state, window[0]))
    assert (actions[..., policy.household.battery.argmax(1)[0]] == 0).all()  # type: ignore[union-attr]
    assert world.validate(policy)["departures_met"] < 0.9


def test_a_battery_by_habit_cancels_what_its_home_draws_or_gives(world: CommunityWorld) -> None:
    community: Community = world.community
    policy = policy_of(world)
    state, window = world.draw(64, 1, torch.Generator().manual_seed(1))
    soc = state.soc.clone()
    soc[:, : community.homes] = 0.5
    state = state._replace(soc=soc, soc_before=soc)
    with torch.no_grad():
        actions = policy(world.observe(state, window[0]))
        _, flows = community.step(state, actions, window[0])
    others = flows.net - flows.battery
    able = others.abs() < 2.0  # kWh: neither its power nor its charge is the limit
    assert able.float().mean() > 0.5
    assert flows.net[able].abs().max() < 1e-3 and flows.net[~able].abs().max() > 1.0


def test_homes_announce_what_they_then_take(world: CommunityWorld) -> None:
    community = world.community
    policy = policy_of(world, coordination="announce")
    household = policy.household
    assert household is not None
    state, window = world.draw(256, 6, torch.Generator().manual_seed(2))
    steady, unsteady = 0, 0
    for hour in window[:-1]:
        observations = world.observe(state, hour)
        with torch.no_grad():
            actions = policy(observations)
            planned = household.planned(observations, actions)
            owed = dict(zip(household.OWED, household.owed(observations).unbind(2), strict=True))
            after, flows = community.step(state, actions, hour)
        taken = flows.net - flows.battery
        started = (flows.started >= 0).any(1)  # of a cycle just begun only the mean is known
        close = ((planned - taken).abs() < 0.05)[~started]
        assert close.float().mean() > 0.995  # a car nearly full takes less than its charger gives
        stored = state.soc[:, : community.homes] * community.storage_capacity[: community.homes]
        torch.testing.assert_close(owed["stored"], stored)
        assert (owed["missing"] >= owed["pace"]).all() and (owed["pace"] >= 0).all()
        steady, unsteady = steady + int((~started).sum()), unsteady + int(started.sum())
        state = after
    assert steady > 500 and unsteady > 0 and owed["pace"].max() > 1.0


def test_batteries_that_answer_in_full_keep_the_district_level(world: CommunityWorld) -> None:
    community = world.community
    policy = policy_of(world, coordination="announce")
    slots = community.slots
    with torch.no_grad():  # no habit, no wish of its own, a share of 1
        policy.actors.biases[-1][:, :, slots : 2 * slots] = -1 / 2.0
        policy.actors.biases[-1][:, :, 2 * slots] = 1 / 2.0
        policy.actors.biases[-1][:, :, :slots] = 0.0
    state, window = world.draw(256, 1, torch.Generator().manual_seed(3))
    soc = state.soc.clone()
    soc[:, : community.homes] = 0.5
    state = state._replace(soc=soc, soc_before=soc)
    with torch.no_grad():
        observations = world.observe(state, window[0])
        _, flows = community.step(state, policy(observations), window[0])
        step = flows.net.sum(1) - state.net.sum(1)
        without = step - flows.battery.sum(1)
    able = without.abs() < 15.0  # kWh, of batteries of 85 kW: what none of them is too small or too full for
    assert able.float().mean() > 0.9 and without[able].abs().max() > 5.0
    assert step[able].abs().mean() < 0.02 * without[able].abs().mean()


def test_what_is_announced_is_heard_as_sums_only(world: CommunityWorld) -> None:
    policy = policy_of(world, coordination="announce")
    state, window = world.draw(4, 1, torch.Generator().manual_seed(4))
    observations = world.observe(state, window[0])
    own = policy.features(observations)
    heard = policy.coordination(own, observations)[..., own.shape[2] :]
    assert heard.shape[2] == 6 and torch.equal(heard[:, 0], heard[:, 9])
    torch.testing.assert_close(heard[..., :2], policy.coordination.sums(observations).unsqueeze(1).expand(-1, 17, -1))
    swapped = observations.clone()  # a kWh is stored elsewhere
    for home, kwh in ((5, 0.1), (6, -0.1)):
        column = world.observation_names[home].index("electrical_storage_soc")
        swapped[:, home, column] += kwh / world.community.storage_capacity[home]
    torch.testing.assert_close(policy.coordination(own, swapped)[..., own.shape[2] :], heard)
    with pytest.raises(ValueError, match="announce needs habits: true"):
        config(coordination="announce", habits=False)
    with pytest.raises(ValueError, match="set broadcast_delay: 0"):
        config(coordination="announce", habits=True, broadcast_delay=1)


def test_even_charging_brings_just_what_is_missing(world: CommunityWorld) -> None:
    community = world.community
    household = world.make_household({"undisclosed_pace": 0.0})
    row, charger, left = next(
        (row, k, int(left))
        for row in range(24, 400)
        for k, left in enumerate(community.read(torch.tensor([row])).departure[0].tolist())
        if 6 <= left <= 12
    )
    car = int(community.charger_car[charger])
    start = torch.full((1, community.cars), 0.5)
    state = community.reset(1, row, left + 2, car_soc=start)
    for hour in range(left + 1):
        rows = community.read(state.row)
        observations = world.observer(state, rows)
        _, habit, _ = household.see(observations)
        assert float(habit[0, community.charger_home[charger], community.charger_slot[charger]]) < 1.0, hour
        required = float(rows.required_soc[0, charger])
        state, flows = community.step(state, habit, rows)
    assert float(flows.car_soc[0, car]) == pytest.approx(required, abs=0.01)


def test_cars_that_may_not_discharge_never_do(world: CommunityWorld) -> None:
    policy = policy_of(world, v2g=False)
    with torch.no_grad():
        policy.actors.weights[-1].normal_(0, 3)
    state, window = world.draw(64, 1, torch.Generator().manual_seed(2))
    devices = policy.household.devices  # type: ignore[union-attr]
    actions = policy(world.observe(state, window[0]))[:, devices]
    assert (actions >= 0).all() and (actions > 0.1).any()
    free = policy_of(world)
    free.load_state_dict(policy.state_dict())
    assert (free(world.observe(state, window[0]))[:, devices] < 0).any()


def test_where_the_guard_raises_a_share_of_the_gradient_passes() -> None:
    wanted, least = torch.tensor([-1.0, 0.5], requires_grad=True), torch.tensor([0.2, 0.2])
    raised = _raised(wanted, least, 0.2)
    assert torch.equal(raised, torch.tensor([0.2, 0.5]))
    raised.sum().backward()
    assert torch.allclose(wanted.grad, torch.tensor([0.2, 1.0]))  # type: ignore[arg-type]


def test_habits_need_a_household() -> None:
    zeros = torch.zeros(3, 2)
    for switch in ("habits", "guard"):
        with pytest.raises(ValueError, match="need a household"):
            build_policy(config(**{switch: True}), ToyWorld(), None, zeros, zeros)


def test_returns_of_several_hours_are_summed_with_discount() -> None:
    world = ToyWorld()
    rewards: list[torch.Tensor] = []

    class Noting(ToyWorld):
        def step(self, state, actions, hour):  # type: ignore[no-untyped-def]
            after, reward = super().step(state, actions, hour)
            rewards.append(reward)
            return after, reward

    settings = config(rollout_horizon=0, return_hours=3, collect_hours=6, copies=4, warmup_hours=100)
    run = Run(settings, Noting(), seed=0)
    rewards.clear()
    run.iterate()
    assert run.replay is not None and run.replay.size == 4 * 4  # 6 hours hold 4 returns of 3
    first = rewards[0] + 0.9 * rewards[1] + 0.81 * rewards[2]
    torch.testing.assert_close(run.replay.memory.reward[:4], first)
    last = rewards[3] + 0.9 * rewards[4] + 0.81 * rewards[5]
    torch.testing.assert_close(run.replay.memory.reward[12:16], last)
    assert world.homes == 3
