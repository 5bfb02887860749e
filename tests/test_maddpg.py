"""The algorithm: who moves whom, who sees what."""

from __future__ import annotations

import pytest
import torch
from test_training import config
from toy_world import ToyWorld

from thesis_lib.maddpg import device
from thesis_lib.maddpg.algorithm import MADDPG
from thesis_lib.maddpg.coordination import LOAD, NET, PV
from thesis_lib.maddpg.muon import Muon
from thesis_lib.maddpg.networks import Critic, Policy
from thesis_lib.maddpg.noise import Noise
from thesis_lib.maddpg.replay import Batch, Replay
from thesis_lib.maddpg.training import build_policy


class Districts(ToyWorld):
    """The toy, its observations under the names that the broadcast sums."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_names = [[NET, LOAD, PV] for _ in range(self.homes)]


def make(world: ToyWorld, **overrides: object) -> MADDPG:
    torch.manual_seed(0)
    settings = config(**overrides)
    width = len(world.observation_names[0])
    policy = build_policy(settings, world, None, torch.zeros(world.homes, width), torch.ones(world.homes, width))
    agents = world.homes if settings.critics == "per_agent" else 1
    critic = Critic(policy.features.critic_columns, world.action_mask, settings.critic_units, agents)
    return MADDPG(settings, policy, critic)


def some_batch(algorithm: MADDPG, world: ToyWorld, count: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(1)
    state, _ = world.draw(count, 1, generator)
    observations = world.observe(state, None)
    actions = torch.randn(count, world.homes, 2, generator=generator) * world.action_mask
    after, reward = world.step(state, actions, None)
    return Batch(observations, actions, reward, world.observe(after, None))


def test_different_actions_give_different_team_rewards() -> None:
    world = ToyWorld()
    state, _ = world.draw(4, 1, torch.Generator().manual_seed(0))
    rewards = [world.step(state, torch.full((4, 3, 2), action), None)[1] for action in (-1.0, 0.0, 1.0)]
    assert not torch.equal(rewards[0], rewards[1]) and not torch.equal(rewards[1], rewards[2])


@pytest.mark.parametrize("horizon", [0, 4])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("mode", "learned"), [("none", set()), ("attention", {"query", "key", "value"})])
def test_one_update_moves_every_actor_what_they_hear_and_the_critic(
    mode: str, learned: set[str], horizon: int, shared: bool
) -> None:
    world = ToyWorld()
    algorithm = make(world, rollout_horizon=horizon, shared_actors=shared, coordination=mode)
    assert {name for name, _ in algorithm.policy.coordination.named_parameters()} == learned
    before = {name: value.clone() for name, value in algorithm.policy.named_parameters()}
    critic = {name: value.clone() for name, value in algorithm.critic.named_parameters()}
    targets = [value.clone() for value in algorithm.target_policy.parameters()]
    if horizon == 0:
        algorithm.update(batch=some_batch(algorithm, world))
    else:
        algorithm.update(world=world, start=world.draw(16, horizon, torch.Generator().manual_seed(0)))
    for name, value in algorithm.policy.named_parameters():
        for home in range(len(value)):  # each home's slice
            assert not torch.equal(value[home], before[name][home]), (name, home)
    for name, value in algorithm.critic.named_parameters():
        for twin in range(2):
            assert not torch.equal(value[twin], critic[name][twin]), (name, twin)
    for now, then in zip(algorithm.target_policy.parameters(), targets, strict=True):
        assert not torch.equal(now, then)


def test_without_the_tail_the_critic_is_left_alone() -> None:
    world = ToyWorld()
    algorithm = make(world, terminal_value=False)
    critic = [value.clone() for value in algorithm.critic.parameters()]
    algorithm.update(world=world, start=world.draw(16, 8, torch.Generator().manual_seed(0)))
    assert all(torch.equal(a, b) for a, b in zip(algorithm.critic.parameters(), critic, strict=True))


def test_the_rollout_loss_is_the_discounted_sum_and_its_tail() -> None:
    world = ToyWorld()
    algorithm = make(world, rollout_horizon=3)
    state, window = world.draw(5, 3, torch.Generator().manual_seed(0))
    total = torch.zeros(5)
    stand = state
    for hour in range(3):
        stand, reward = world.step(stand, algorithm.policy(world.observe(stand, None)), None)
        total = total + 0.9**hour * reward
    actions, features = algorithm.policy.decide(world.observe(stand, None))
    total = total + 0.9**3 * algorithm.critic(features, actions)[0, :, 0]
    loss = algorithm.rollout_actor_loss(algorithm.rollout(world, state, window))
    torch.testing.assert_close(loss, -total.mean() / 3)


def test_the_replay_target_takes_the_lower_twin() -> None:
    world = ToyWorld()
    algorithm = make(world, rollout_horizon=0)
    batch = some_batch(algorithm, world)
    actions, features = algorithm.target_policy.decide(batch.following)
    twins = algorithm.target_critic(features, actions)
    assert twins.shape == (2, 16, 1) and not torch.equal(twins[0], twins[1])
    torch.testing.assert_close(algorithm.replay_target(batch), batch.reward.unsqueeze(1) + 0.9 * twins.min(0).values)


@pytest.mark.parametrize("shared", [False, True])
def test_an_actor_ignores_what_other_homes_see(shared: bool) -> None:
    policy = make(ToyWorld(), shared_actors=shared).policy
    observations = torch.randn(4, 3, 2, requires_grad=True)
    actions = policy(observations)
    for home in range(3):
        moved = observations.detach().clone()
        moved[:, [h for h in range(3) if h != home]] += torch.randn(4, 2, 2)
        assert torch.equal(policy(moved)[:, home], actions[:, home])
        (gradient,) = torch.autograd.grad(actions[:, home].sum(), observations, retain_graph=True)
        assert gradient[:, home].abs().sum() > 0
        assert gradient[:, [h for h in range(3) if h != home]].abs().sum() == 0


def test_broadcast_adds_the_two_district_sums_and_nothing_else() -> None:
    policy: Policy = make(Districts(), coordination="broadcast").policy
    observations = torch.randn(2, 3, 3)
    moved = observations.clone()  # others change, their sums do not
    moved[:, 1] += torch.tensor([1.0, 0.5, 0.25])
    moved[:, 2] -= torch.tensor([1.0, 0.5, 0.25])
    torch.testing.assert_close(policy(moved)[:, 0], policy(observations)[:, 0])
    moved[:, 2, 0] += 1.0
    assert not torch.allclose(policy(moved)[:, 0], policy(observations)[:, 0])
    with pytest.raises(ValueError, match="broadcast needs every home to observe"):
        make(ToyWorld(), coordination="broadcast")


def test_a_late_broadcast_tells_the_uncontrolled_net_of_the_hour_before() -> None:
    on_time = make(Districts(), coordination="broadcast").policy
    late = make(Districts(), coordination="broadcast", broadcast_delay=1).policy
    late.load_state_dict(on_time.state_dict())
    first, second = torch.randn(2, 3, 3), torch.randn(2, 3, 3)
    sums = [on_time.coordination.sums(seen) for seen in (first, second)]  # type: ignore[operator]
    for _ in range(2):
        late.reset()
        torch.testing.assert_close(late.coordination.sums(first), sums[0])  # type: ignore[operator]
        heard = late.coordination.sums(second)  # type: ignore[operator]
        torch.testing.assert_close(heard[:, 0], sums[1][:, 0])
        torch.testing.assert_close(heard[:, 1], sums[0][:, 1])
    with pytest.raises(ValueError, match="needs rollout_horizon above 0"):
        config(broadcast_delay=1, rollout_horizon=0)


@pytest.mark.parametrize("mode", ["attention", "mean_field"])
def test_homes_that_communicate_hear_the_others_and_only_so(mode: str) -> None:
    policy = make(ToyWorld(), coordination=mode).policy
    observations = torch.randn(2, 3, 2)
    for home in range(3):
        moved = observations.clone()
        moved[:, (home + 1) % 3] += 1.0
        assert not torch.equal(policy(moved)[:, home], policy(observations)[:, home])
    own = policy.features(observations)
    heard = policy.coordination(own, observations)[..., own.shape[2] :]
    own = own.clone()
    own[:, 0] += 1.0  # what a home sees itself is not among what it hears
    if mode == "mean_field":
        torch.testing.assert_close(policy.coordination(own, observations)[:, 0, own.shape[2] :], heard[:, 0])
        torch.testing.assert_close(heard[:, 0], policy.features(observations)[:, 1:].mean(1))


def test_with_a_critic_for_each_agent_gradients_stay_at_home() -> None:
    algorithm = make(ToyWorld(), critics="per_agent")
    features = algorithm.policy.features(torch.randn(5, 3, 2)).requires_grad_()
    actions = torch.randn(5, 3, 2, requires_grad=True)
    for own in (True, False):
        values = algorithm.critic(features, actions, own=own)
        assert values.shape == (2, 5, 3)
        for agent in range(3):
            (gradient,) = torch.autograd.grad(values[0, :, agent].sum(), actions, retain_graph=True)
            others = [home for home in range(3) if home != agent]
            assert gradient[:, agent, 0].abs().min() > 0
            assert bool(gradient[:, others].abs().sum() == 0) is own
    torch.testing.assert_close(
        algorithm.critic(features, actions, own=True), algorithm.critic(features, actions, own=False)
    )


def test_rewards_reach_the_critics_they_are_about() -> None:
    team, each = torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    central, own = make(ToyWorld()), make(ToyWorld(), critics="per_agent")
    assert torch.equal(central.per_critic(team), team.unsqueeze(1))
    assert torch.equal(central.per_critic(each), each.mean(1, keepdim=True))
    assert torch.equal(own.per_critic(each), each) and torch.equal(own.per_critic(team)[:, 2], team)


def test_muon_moves_every_home_by_an_orthogonal_step_of_the_same_size() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((5, 40, 16), (5, 16, 40), (5, 16, 6)):
        gradient = torch.randn(shape, generator=generator) * torch.logspace(-6, 0, 5).view(5, 1, 1)
        weight = torch.nn.Parameter(torch.zeros(shape))
        optimiser = Muon([weight], lr=0.1, weight_decay=0.0)
        weight.grad = gradient
        optimiser.step()
        values = torch.linalg.svdvals(weight.detach()) / (0.1 * 0.2 * max(shape[1:]) ** 0.5)
        assert values.min() > 0.3 and values.max() < 1.3
        left, _, right = torch.linalg.svd(gradient, full_matrices=False)
        along = torch.nn.functional.cosine_similarity(-weight.detach().flatten(1), (left @ right).flatten(1))
        assert along.min() > 0.9
    bias = torch.nn.Parameter(torch.ones(2, 1, 3))
    twin = torch.nn.Parameter(torch.ones(2, 1, 3))
    ours, adam = Muon([bias], lr=0.01, weight_decay=0.5), torch.optim.Adam([twin], lr=0.01)
    for _ in range(3):
        bias.grad = twin.grad = torch.randn(2, 1, 3, generator=generator)
        ours.step()
        adam.step()
    torch.testing.assert_close(bias, twin)


def test_actions_stay_within_bounds_and_absent_slots_stay_zero() -> None:
    policy = make(ToyWorld()).policy
    with torch.no_grad():
        for weight in policy.actors.weights:
            weight.mul_(100)
    actions = policy(torch.randn(64, 3, 2) * 5, noise=torch.randn(64, 3, 2) * 10)
    assert actions[..., 0].abs().max() <= 3.0 and (actions[..., 1] == 0).all()


def test_update_takes_one_source() -> None:
    algorithm = make(ToyWorld())
    with pytest.raises(ValueError, match="a replay batch"):
        algorithm.update()


def test_replay_is_a_ring() -> None:
    replay = Replay(5, 2, 3, 1)
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="empty"):
        replay.sample(1, generator)
    for first in (0, 3):
        reward = torch.arange(first, first + 3.0)
        seen = reward.view(3, 1, 1)
        replay.add(Batch(seen.expand(3, 2, 3), seen.expand(3, 2, 1), reward, seen.expand(3, 2, 3)))
    assert sorted(replay.memory.reward.tolist()) == [1.0, 2.0, 3.0, 4.0, 5.0] and replay.size == 5
    batch = replay.sample(64, generator)
    assert torch.equal(batch.observations[:, 0, 0], batch.reward) and set(batch.reward.tolist()) == {1, 2, 3, 4, 5}
    other = Replay(5, 2, 3, 1)
    other.load_state_dict(replay.state_dict())
    assert torch.equal(other.memory.reward, replay.memory.reward) and other.position == replay.position


@pytest.mark.parametrize("kind", ["gaussian", "ou"])
def test_noise_has_its_scale_and_only_ou_remembers(kind: str) -> None:
    noise = Noise(kind, 0.3, (200, 4, 2), theta=0.2)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    values = torch.stack([noise.sample(generator) for _ in range(120)])[60:]
    assert abs(float(values.std()) - 0.3) < 0.02
    memory = float((values[1:] * values[:-1]).mean() / values.square().mean())
    assert abs(memory - (0.8 if kind == "ou" else 0.0)) < 0.05
    between = float((values[..., 0] * values[..., 1]).mean() / values.square().mean())
    assert abs(between) < 0.05
    with pytest.raises(ValueError, match="gaussian or ou"):
        Noise("pink", 0.1, (1, 1, 1))  # type: ignore[arg-type]


def test_devices_resolve_or_say_why_not() -> None:
    found = device.resolve("cpu")
    assert found.torch == "cpu" and found.name and set(found.record()) == {"torch", "name", "memory_gb"}
    assert device.resolve("auto").torch in ("cpu", "cuda:0")
    for name in ("gpu", "cuda:x", "cpu:1", "cuda:99", "mps:0"):
        with pytest.raises(device.DeviceError) as raised:
            device.resolve(name)
        assert "\n" not in str(raised.value) and name in str(raised.value)
    if not torch.cuda.is_available():
        with pytest.raises(device.DeviceError, match="use device: cpu or auto"):
            device.resolve("cuda")
