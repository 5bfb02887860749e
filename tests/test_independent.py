"""Independent TD3 and SAC: every home learns, none learns anything of another, and a run goes on where it stopped."""

from __future__ import annotations

import csv
import json
import signal
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import equal, flat, model
from toy_world import EFFORT, ToyWorld

from thesis_lib import paths
from thesis_lib.analysis import evaluation, learner
from thesis_lib.community import dataset
from thesis_lib.community.kpis import WEIGHTS
from thesis_lib.community.observations import Observer
from thesis_lib.community.splits import split_of_rows
from thesis_lib.config import ConfigError, load_config
from thesis_lib.controllers import LEARNERS, independent
from thesis_lib.controllers.independent import HomeCritics, Independent, LearnerConfig
from thesis_lib.controllers.rules import BusinessAsUsual
from thesis_lib.maddpg.replay import Batch
from thesis_lib.maddpg.training import CheckpointError, CommunityWorld, load_policy, read_checkpoint, train

SETTINGS = {
    "guard": False, "guard_leak": 0.2, "guard_spare_steps": 0, "guard_tolerance": 0.04, "v2g": True, "augment": False,
    "swap_share": 0.0, "weights": WEIGHTS, "reward": "individual", "habits": False, "updates": 8,
    "minutes": 5.0, "batch": 32, "validate_every": 4, "final_rate": 0.05, "discount": 0.9, "return_hours": 1,
    "actor_units": 16, "critic_units": 16, "actor_rate": 3e-3, "critic_rate": 5e-3, "critic_updates": 1,
    "critic_warmup": 0, "target_rate": 0.02, "gradient_clip": 10.0, "replay_capacity": 2000, "copies": 8,
    "collect_hours": 4, "updates_per_hour": 1, "warmup_hours": 4, "noise": "gaussian", "noise_scale": 0.3,
    "noise_theta": 0.5, "target_noise": 0.1, "temperature": 0.01, "temperature_rate": 1e-3, "target_entropy": -2.0,
}  # fmt: skip
KINDS = {"td3": independent.TD3, "sac": independent.SAC}
ALGORITHMS = pytest.mark.parametrize("algorithm", KINDS)


class OwnRewards(ToyWorld):
    """The toy, each home with the reward of its own store."""

    def step(self, state, actions, hour):  # type: ignore[no-untyped-def]
        after, _ = super().step(state, actions, hour)
        return after, -(after.square() + EFFORT * actions[..., 0].square())

    def validate(self, policy: object) -> dict[str, float]:
        self.validations += 1
        return {"composite": ToyWorld(self.homes, self.discount).cost(policy), "passes": 1.0}


@cache
def community_world() -> CommunityWorld:
    return CommunityWorld(model("official", torch.float32), BusinessAsUsual(), reward="individual")


@pytest.fixture(scope="module")
def real() -> CommunityWorld:
    return community_world()


def config(algorithm: str, **overrides: object) -> LearnerConfig:
    return KINDS[algorithm].Config(**{**SETTINGS, "algorithm": algorithm, **overrides})


def quiet(line: str) -> None:
    pass


def make(algorithm: str, world: ToyWorld, **overrides: object) -> Independent:
    torch.manual_seed(0)
    settings = config(algorithm, **overrides)
    policy = independent.build_policy(settings, world, None, torch.zeros(world.homes, 2), torch.ones(world.homes, 2))
    return Independent(settings, policy, HomeCritics(world.homes, policy.features.size, 2, settings.critic_units))


def some_batch(algorithm: Independent, world: ToyWorld, count: int = 16, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    state, _ = world.draw(count, 1, generator)
    actions = torch.randn(count, world.homes, 2, generator=generator) * world.action_mask
    after, reward = world.step(state, actions, None)
    see = algorithm.policy.see
    return Batch(see(world.observe(state, None)), actions, reward, see(world.observe(after, None)))


@ALGORITHMS
def test_an_update_moves_every_actor_and_critic_and_their_targets(algorithm: str) -> None:
    world = OwnRewards()
    learner_ = make(algorithm, world)
    parts = ("policy", "critic", "target_policy", "target_critic")
    before = {part: [value.clone() for value in getattr(learner_, part).parameters()] for part in parts}
    alpha = learner_.temperature().clone()
    losses = learner_.update([some_batch(learner_, world)])
    assert set(losses) == {"critic_loss", "actor_loss"}
    for part in parts:
        for now, then in zip(getattr(learner_, part).parameters(), before[part], strict=True):
            for home in range(len(now)):  # each home's slice, and each twin's
                assert not torch.equal(now[home], then[home]), part
    assert bool((learner_.temperature() != alpha).all()) is (algorithm == "sac")


@ALGORITHMS
def test_in_its_warm_up_only_the_critics_move(algorithm: str) -> None:
    world = OwnRewards()
    learner_ = make(algorithm, world)
    before = [value.clone() for value in learner_.policy.parameters()]
    losses = learner_.update([some_batch(learner_, world)], actors=False)
    assert set(losses) == {"critic_loss"}
    assert all(torch.equal(*pair) for pair in zip(learner_.policy.parameters(), before, strict=True))


@ALGORITHMS
def test_what_a_home_learns_has_nothing_of_another_home(algorithm: str) -> None:
    """Two trainings that differ in what the other homes saw, did and earned leave this home's networks the same."""
    world, home = OwnRewards(), 1
    others = [h for h in range(world.homes) if h != home]
    left = []
    for disturbed in (False, True):
        learner_ = make(algorithm, world, gradient_clip=0.1)
        torch.manual_seed(5)
        for step in range(5):
            batch = some_batch(learner_, world, seed=step)
            if disturbed:
                for part in batch:
                    part[:, others] = 3 * part[:, others] + 1
            learner_.update([batch])
        networks = (learner_.policy, learner_.critic, learner_.target_policy, learner_.target_critic)
        values = [value.detach() for network in networks for value in network.parameters()]
        left.append((values, learner_.temperature()))
    for one, other in zip(left[0][0], left[1][0], strict=True):
        for place in range(home, len(one), world.homes):  # critics hold both twins
            assert torch.equal(one[place], other[place])
        assert not torch.equal(one[others[0]], other[others[0]])
    assert left[0][1][home] == left[1][1][home]


@ALGORITHMS
def test_a_home_of_the_real_community_decides_and_is_judged_alone(algorithm: str, real: CommunityWorld) -> None:
    world, community = real, real.community
    settings = config(algorithm, guard=True, habits=True)
    household = world.make_household(world.guard_settings(settings))  # type: ignore[arg-type]
    shape = (community.homes, max(map(len, community.observation_names)))
    policy = independent.build_policy(settings, world, household, torch.zeros(shape), torch.ones(shape))
    critic = HomeCritics(community.homes, policy.features.size, community.slots, 8)
    state, window = world.draw(16, 3, torch.Generator().manual_seed(0))
    observations = world.observe(state, window[0])
    for home in (0, 3, 14, 16):
        moved = observations + torch.rand_like(observations)
        moved[:, home] = observations[:, home]
        seen, other = policy.see(observations), policy.see(moved)
        first, second = policy.choose(seen), policy.choose(other)
        assert torch.equal(first.actions[:, home], second.actions[:, home])
        values, judged = critic(first.inputs, first.actions), critic(second.inputs, second.actions)
        assert torch.equal(values[:, :, home], judged[:, :, home]) and not torch.equal(values, judged)


@ALGORITHMS
def test_what_is_replayed_gives_what_was_decided(algorithm: str, real: CommunityWorld) -> None:
    """The memory keeps features, habits and least actions: deciding from them is deciding from the observation."""
    world, community = real, real.community
    settings = config(algorithm, guard=True, habits=True)
    household = world.make_household(world.guard_settings(settings))  # type: ignore[arg-type]
    shape = (community.homes, max(map(len, community.observation_names)))
    policy = independent.build_policy(settings, world, household, torch.zeros(shape), torch.ones(shape))
    state, window = world.draw(8, 3, torch.Generator().manual_seed(0))
    observations = world.observe(state, window[0])
    seen = policy.see(observations)
    assert torch.equal(policy.choose(seen).actions, policy(observations))
    # and an untrained one does nearly what the household would
    habit = policy.parts(seen)[2]
    assert habit is not None and (habit > 0).any()
    devices = household.devices.expand_as(habit) & (habit > 0)
    assert (policy(observations) - habit)[devices].abs().median() < 0.1


@ALGORITHMS
def test_actors_draw_what_they_say_they_draw(algorithm: str) -> None:
    """SAC's log-probability is that of the density of the action, by a histogram; TD3 has none."""
    world = OwnRewards(homes=1)
    policy = make(algorithm, world, noise_scale=0.5).policy
    seen = policy.see(torch.zeros(200_000, 1, 2))
    if algorithm == "td3":
        assert policy.choose(seen).log_probability is None
        return
    with torch.no_grad():
        choice = policy.choose(seen, draw=True)
    unit = choice.actions[:, 0, 0] / 3.0  # bounds are -3 and 3
    counts = torch.histc(unit, 20, -1, 1) / len(unit) / 0.1
    middles = torch.linspace(-0.95, 0.95, 20)
    for middle, density in zip(middles.tolist(), counts.tolist(), strict=True):
        near = (unit - middle).abs() < 0.05
        if near.sum() > 5000:
            assert choice.log_probability is not None
            assert choice.log_probability[near, 0].exp().mean() == pytest.approx(density, rel=0.05)


@ALGORITHMS
def test_the_toy_is_learned_to_near_its_optimum(algorithm: str, tmp_path: Path) -> None:
    settings = config(algorithm, updates=450, validate_every=75, batch=64, collect_hours=8, actor_rate=1e-3)
    world = OwnRewards()
    folder = train(settings, world, tmp_path, seed=1, say=quiet, kind=KINDS[algorithm])
    scores = pd.read_csv(folder / "log.csv")["composite"]
    assert 1.0 - 1e-3 <= scores.iloc[-1] <= 1.15 < scores.iloc[0]


@ALGORITHMS
def test_resuming_continues_bit_for_bit_and_the_same_seed_gives_the_same(algorithm: str, tmp_path: Path) -> None:
    kind, settings = KINDS[algorithm], config(algorithm, return_hours=2)
    whole = train(settings, OwnRewards(), tmp_path / "whole", seed=3, say=quiet, kind=kind)
    again = train(settings, OwnRewards(), tmp_path / "again", seed=3, say=quiet, kind=kind)
    other = train(settings, OwnRewards(), tmp_path / "other", seed=4, say=quiet, kind=kind)

    class Interrupting(OwnRewards):
        def validate(self, policy: object) -> dict[str, float]:
            found = super().validate(policy)
            signal.raise_signal(signal.SIGINT)
            return found

    with pytest.raises(SystemExit, match="run the same again to go on"):
        train(settings, Interrupting(), tmp_path / "halves", seed=3, say=quiet, kind=kind)
    assert 0 < read_checkpoint(tmp_path / "halves" / "last.pt", "toy")["updates"] < 8
    torch.rand(5)  # what happens in between must not matter
    halves = train(settings, OwnRewards(), tmp_path / "halves", seed=3, say=quiet, kind=kind)
    first = flat(read_checkpoint(whole / "last.pt", "toy"))
    for folder, same in ((again, True), (halves, True), (other, False)):
        second = flat(read_checkpoint(folder / "last.pt", "toy"))
        assert first.keys() == second.keys()
        differing = [name for name in first if name != "/seconds" and not equal(first[name], second[name])]
        assert (not differing) is same, differing
        rows = [list(csv.DictReader((each / "log.csv").open(encoding="utf-8"))) for each in (whole, folder)]
        assert ([{**row, "seconds": ""} for row in rows[0]] == [{**row, "seconds": ""} for row in rows[1]]) is same


def test_checkpoints_of_something_else_are_refused_in_one_line(tmp_path: Path) -> None:
    train(config("td3"), OwnRewards(), tmp_path, seed=0, say=quiet, kind=independent.TD3)
    for message, kind, settings, seed in (
        ("another config", independent.TD3, config("td3", batch=33), 0),
        ("another config", independent.SAC, config("sac"), 0),
        ("another seed", independent.TD3, config("td3"), 1),
    ):
        with pytest.raises(CheckpointError, match=message) as raised:
            train(settings, OwnRewards(), tmp_path, seed=seed, say=quiet, kind=kind)
        assert "\n" not in str(raised.value)


def test_a_nan_in_the_reward_is_an_error(tmp_path: Path) -> None:
    class Poisoned(OwnRewards):
        def step(self, state, actions, hour):  # type: ignore[no-untyped-def]
            after, reward = super().step(state, actions, hour)
            return after, reward * float("nan")

    with pytest.raises(FloatingPointError, match="look for a NaN"):
        train(config("sac"), Poisoned(), tmp_path, seed=0, say=quiet, kind=independent.SAC)


# --- on the real community ---

SMALL = {
    "guard": True, "habits": True, "augment": True, "swap_share": 0.5, "updates": 2, "validate_every": 2, "batch": 4,
    "actor_units": 8, "critic_units": 8, "copies": 4, "collect_hours": 4, "warmup_hours": 2,
}  # fmt: skip


def told_by_test_rows(settings: LearnerConfig, world: CommunityWorld, folder: Path, kind: type) -> list[str]:
    """Train in folder/clean, and in folder/blind without test rows: what differs between the two checkpoints."""
    community = world.community
    train(settings, world, folder / "clean", seed=0, say=quiet, kind=kind)
    table = community.table
    try:
        community.table = table.clone()
        community.table[torch.from_numpy(split_of_rows(community.rows) == "test")] = float("nan")
        train(settings, world, folder / "blind", seed=0, say=quiet, kind=kind)
    finally:
        community.table = table
    files = [folder / name / "last.pt" for name in ("clean", "blind")]
    one, other = (flat(read_checkpoint(file, community.fingerprint)) for file in files)
    return [name for name in one if name != "/seconds" and not equal(one[name], other[name])]


@ALGORITHMS
def test_a_policy_of_the_real_community_is_trained_kept_and_loaded(
    algorithm: str, real: CommunityWorld, tmp_path: Path
) -> None:
    """And nothing of it comes from a test row."""
    kind, settings, community = KINDS[algorithm], config(algorithm, **SMALL), real.community
    assert told_by_test_rows(settings, real, tmp_path, kind) == []

    policy = load_policy(tmp_path / "clean" / "last.pt", community, kind=kind)
    policy.reset(community)
    observations = Observer(community)(community.reset(3, torch.tensor([0, 500, 3000]), 10))
    actions = policy.act(observations)
    assert actions.shape == (3, community.homes, community.slots) and not actions.requires_grad
    assert (actions >= community.action_low).all() and (actions <= community.action_high).all()
    assert (actions[:, ~community.action_mask] == 0).all()
    log = pd.read_csv(tmp_path / "clean" / "log.csv")
    assert log["departures_met"].iloc[-1] > 0.9  # the guard
    with pytest.raises(ValueError, match="needs the reference controller"):
        train(settings, community, tmp_path / "other", seed=0, say=quiet, kind=kind)


# --- the pipeline ---


@pytest.mark.parametrize("name", ["independent_sac", "marlisa"])
def test_one_command_trains_a_compared_learner_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, config_ = dataset.find("auto"), load_config("test", engines=["model"])
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    said: list[str] = []
    rows = learner.learn(config_, "default", 0, data, controller=name, end=48, say=said.append)
    assert set(rows["controller"]) == {name} and set(rows["variant"]) == {"default"}
    folder = paths.run("test", data.edition, name, "default", 0)
    names = ["flows.csv.gz", "homes.csv", "hourly.csv.gz", "kpis.csv", "run.json", "training.csv", "weekly.csv"]
    assert sorted(file.name for file in folder.iterdir()) == names
    record = json.loads((folder / "run.json").read_text())
    assert record["recipe"] == learner.recipe(config_, "default", 0, data, controller=name, end=48)
    assert record["training"]["updates"] == config_.learners[name]["updates"]
    assert record["settings"]["train"]["guard_tolerance"] == config_.train["guard_tolerance"]
    log = pd.read_csv(folder / "training.csv")
    assert log["controller"].unique() == [name] and {"composite", "departures_met"} <= set(log)
    learner.learn(config_, "default", 0, data, controller=name, end=48, say=said.append)
    assert "its rows are there" in said[-1]


def test_what_a_compared_learner_depends_on() -> None:
    config_, data = load_config("test"), dataset.find("auto")
    files = {name: {file.name for file in learner.code(name)} for name in LEARNERS}
    assert "independent.py" in files["independent_td3"] and "marlisa.py" not in files["independent_td3"]
    assert {"independent.py", "marlisa.py", "guard.py", "training.py"} <= files["marlisa"]
    every = {file.name for file in (paths.LIBRARY / "maddpg").glob("*.py")}
    assert {file.name for file in learner.code()} == every - {"captured.py"}  # only how a GPU is driven counts nothing
    usual = {name: learner.recipe(config_, "default", 0, data, controller=name) for name in LEARNERS}
    assert len(set(usual.values())) == len(usual)
    looser = config_.model_copy(update={"train": config_.train | {"guard_tolerance": 0.0}})
    other = config_.model_copy(update={"train": config_.train | {"rollout_horizon": 3}})
    for name, recipe in usual.items():
        assert learner.recipe(looser, "default", 0, data, controller=name) != recipe
        assert learner.recipe(other, "default", 0, data, controller=name) == recipe  # a key of the main learner alone
    ours = learner.recipe(config_, "none", 0, data)
    changed = {**config_.learners, "marlisa": {**config_.learners["marlisa"], "updates": 3}}
    assert learner.recipe(config_.model_copy(update={"learners": changed}), "none", 0, data) == ours
    assert evaluation.recipe_of(learner.CONTROLLER, 0, data, config_.engines, {"train": config_.train_for("none")},
                                code=learner.code()) == ours  # fmt: skip


@pytest.mark.parametrize(
    ("learners", "says"),
    [
        ({"dqn": {}}, "unknown learner 'learners.dqn'; allowed are independent_td3"),
        ({"marlisa": {}}, "learners.marlisa: key 'algorithm' is missing"),
        ({"independent_td3": {"algorithm": "sac"}}, "learners.independent_td3: key 'algorithm'"),
        ({"marlisa": {"return_hours": 3}}, "learners.marlisa: key 'return_hours'"),
        ({"independent_sac": {"updats": 3}}, "unknown key 'updats'; allowed are guard"),
    ],
)
def test_settings_that_cannot_be_used_are_told_in_one_line(learners: dict, says: str) -> None:
    usual = load_config("test").learners
    full = {name: {**usual[name], **values} if values else {} for name, values in learners.items() if name in usual}
    with pytest.raises(ConfigError) as caught:
        load_config("test", learners={**learners, **full})
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_the_command_tells_what_it_cannot_do_in_one_line(capsys: pytest.CaptureFixture) -> None:
    assert learner.main(["loud", "--controller", "marlisa", "--profile", "test"]) == 1
    assert "marlisa has no variant 'loud'; allowed is default" in capsys.readouterr().err
    assert learner.main(["--profile", "test"]) == 1
    assert "no variant 'default'" in capsys.readouterr().err
