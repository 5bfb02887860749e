"""The loop: it learns what is known to be best, resumes bit for bit, stops when asked and never hides an error."""

from __future__ import annotations

import copy
import csv
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import equal, find, flat, model
from toy_world import ToyWorld

from thesis_lib.community import dataset
from thesis_lib.community.kpis import WEIGHTS, Service
from thesis_lib.community.model import Community
from thesis_lib.community.observations import Observer
from thesis_lib.community.reading import read_environment
from thesis_lib.community.replication import replicated
from thesis_lib.community.splits import blocks, split_of_rows
from thesis_lib.controllers.rules import BusinessAsUsual
from thesis_lib.maddpg import captured
from thesis_lib.maddpg.training import (
    CheckpointError,
    CommunityWorld,
    Run,
    TrainConfig,
    build_policy,
    load_policy,
    read_checkpoint,
    train,
    write_checkpoint,
)

SETTINGS = {
    "rollout_horizon": 8, "terminal_value": True, "discount": 0.9, "return_hours": 1, "coordination": "none",
    "broadcast_delay": 0, "trained_homes": 0, "shared_actors": False,
    "critics": "central", "actor_units": 16, "critic_units": 32, "actor_optimiser": "adam",
    "actor_rate": 5e-3, "weight_decay": 0.0, "critic_rate": 5e-3, "target_rate": 0.02, "gradient_clip": 10.0,
    "mixed_precision": False, "compile": False, "updates": 8, "minutes": 5.0, "batch": 32, "final_rate": 0.02,
    "validate_every": 4, "habits": False, "guard": False, "guard_leak": 0.2, "guard_spare_steps": 0,
    "guard_tolerance": 0.0, "v2g": True, "replicate": 0, "observation_noise": 0.0, "observation_missing": 0.0,
    "augment": False, "swap_share": 0.0, "reward": "team", "weights": WEIGHTS, "reward_offset": 0.0,
    "replay_capacity": 2000, "copies": 8, "collect_hours": 4, "updates_per_hour": 1, "warmup_hours": 4,
    "critic_warmup": 0, "noise": "ou", "noise_scale": 0.3, "noise_theta": 0.5,
}  # fmt: skip
ROLLED, REPLAYED = {}, {"rollout_horizon": 0}


def config(**overrides: object) -> TrainConfig:
    return TrainConfig(**{**SETTINGS, **overrides})


def quiet(line: str) -> None:
    pass


def score(folder: Path) -> float:
    world = ToyWorld()
    content = read_checkpoint(folder / "best.pt", "toy")
    settings = TrainConfig(**content["config"])
    policy = build_policy(settings, world, None, torch.zeros(3, 2), torch.ones(3, 2))
    policy.load_state_dict(content["policy"])
    return world.cost(policy)


@pytest.mark.parametrize(
    "overrides",
    [
        {"updates": 200, "rollout_horizon": 12, "terminal_value": False},
        {"updates": 1600, "rollout_horizon": 2, "actor_rate": 2e-3, "critic_rate": 1e-2, "target_rate": 0.05},
        {"updates": 5000, "rollout_horizon": 0, "target_rate": 0.05, "critic_units": 32},
    ],
    ids=["K=12", "K=2 and its tail", "K=0"],
)
def test_the_toy_is_learned_to_within_two_percent_of_its_optimum(tmp_path: Path, overrides: dict) -> None:
    settings = config(**{"batch": 128, "critic_units": 64, "validate_every": 100, **overrides})
    folder = train(settings, ToyWorld(), tmp_path, seed=2, say=quiet)
    assert 1.0 - 1e-3 <= score(folder) <= 1.02


@pytest.mark.parametrize("mode", [ROLLED, REPLAYED, {"terminal_value": False}], ids=["K=8", "K=0", "no tail"])
def test_resuming_continues_bit_for_bit(tmp_path: Path, mode: dict) -> None:
    whole = train(config(**mode), ToyWorld(), tmp_path / "whole", seed=3, say=quiet)

    class Interrupting(ToyWorld):
        def validate(self, policy: object) -> dict[str, float]:
            found = super().validate(policy)
            signal.raise_signal(signal.SIGINT)
            return found

    with pytest.raises(SystemExit, match="run the same again to go on"):
        train(config(**mode), Interrupting(), tmp_path / "halves", seed=3, say=quiet)
    assert read_checkpoint(tmp_path / "halves" / "last.pt", "toy")["updates"] in (4, 5)
    torch.rand(5)  # what happens in between must not matter
    halves = train(config(**mode), ToyWorld(), tmp_path / "halves", seed=3, say=quiet)

    first, second = (flat(read_checkpoint(folder / "last.pt", "toy")) for folder in (whole, halves))
    assert first.keys() == second.keys()
    assert [name for name in first if name != "/seconds" and not equal(first[name], second[name])] == []
    logs = [list(csv.DictReader((folder / "log.csv").open(encoding="utf-8"))) for folder in (whole, halves)]
    assert [{**row, "seconds": ""} for row in logs[0]] == [{**row, "seconds": ""} for row in logs[1]]


def test_what_a_gpu_starts_again_is_the_same_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU a recording is what was recorded, done again: on what lies where the first window lay."""

    def record(work: Any) -> tuple[Any, dict[str, Any]]:
        losses: dict[str, Any] = {}
        recorded.append(work)
        return lambda: losses.update(work()), losses

    recorded: list[Any] = []
    monkeypatch.setattr(captured, "beside", lambda work: work())
    monkeypatch.setattr(captured, "record", record)
    for optimiser in ("adam", "muon"):
        settings, found = config(actor_optimiser=optimiser), {}
        for kind in (Run, captured.CapturedRun):
            folder = train(settings, ToyWorld(), tmp_path / optimiser / kind.__name__, seed=3, say=quiet, kind=kind)
            found[kind] = flat(read_checkpoint(folder / "last.pt", "toy"))
        ours, theirs = found.values()
        assert ours.keys() == theirs.keys()
        for name in (name for name in ours if name.startswith("/algorithm") and torch.is_tensor(ours[name])):
            torch.testing.assert_close(theirs[name], ours[name], rtol=1e-3, atol=1e-5)
    assert len(recorded) == 2
    # The CPU goes on from such a checkpoint, and from the CPU's what records.
    for first, then in ((captured.CapturedRun, Run), (Run, captured.CapturedRun)):
        begun = first(config(), ToyWorld(), 3)
        begun.iterate()
        other = then(config(), ToyWorld(), 4)
        other.load_state_dict(copy.deepcopy(begun.state_dict()))  # else both go on with the same tensors
        for _ in range(5):
            begun.iterate()
            other.iterate()
        ours, theirs = (flat(run.algorithm.policy.state_dict()) for run in (begun, other))
        for name in ours:
            torch.testing.assert_close(theirs[name], ours[name], rtol=1e-3, atol=1e-5)


def test_a_nan_that_a_gpu_finds_is_an_error_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Poisoned(ToyWorld):
        def step(self, state, actions, hour):  # type: ignore[no-untyped-def]
            state, reward = super().step(state, actions, hour)
            return state, reward * float("nan") if actions.requires_grad else reward

    monkeypatch.setattr(captured, "beside", lambda work: work())
    with pytest.raises(FloatingPointError, match="look for a NaN"):
        train(config(), Poisoned(), tmp_path, seed=0, say=quiet, kind=captured.CapturedRun)
    assert not (tmp_path / "last.pt").exists()


def test_mixed_precision_trains(tmp_path: Path) -> None:
    folder = train(config(mixed_precision=True), ToyWorld(), tmp_path, seed=0, say=quiet)
    assert read_checkpoint(folder / "last.pt", "toy")["updates"] == 8


def test_a_finished_run_returns_at_once(tmp_path: Path) -> None:
    train(config(), ToyWorld(), tmp_path, seed=0, say=quiet)
    world = ToyWorld()
    train(config(), world, tmp_path, seed=0, say=quiet)
    assert world.validations == 0


def test_an_error_inside_an_update_comes_out(tmp_path: Path) -> None:
    class Broken(ToyWorld):
        def step(self, state, actions, hour):  # type: ignore[no-untyped-def]
            if actions.requires_grad:
                raise RuntimeError("broken in the middle")
            return super().step(state, actions, hour)

    with pytest.raises(RuntimeError, match="broken in the middle"):
        train(config(), Broken(), tmp_path, seed=0, say=quiet)


def test_a_nan_in_the_reward_is_an_error(tmp_path: Path) -> None:
    class Poisoned(ToyWorld):
        def step(self, state, actions, hour):  # type: ignore[no-untyped-def]
            after, reward = super().step(state, actions, hour)
            return after, reward * float("nan")

    with pytest.raises(FloatingPointError, match="look for a NaN"):
        train(config(), Poisoned(), tmp_path, seed=0, say=quiet)


def test_checkpoints_of_something_else_are_refused_in_one_line(tmp_path: Path) -> None:
    train(config(), ToyWorld(), tmp_path, seed=0, say=quiet)
    last = tmp_path / "last.pt"

    class Elsewhere(ToyWorld):
        fingerprint = "elsewhere"

    for message, arguments in (
        ("was trained on community toy", (config(), Elsewhere(), tmp_path, 0)),
        ("another config", (config(batch=33), ToyWorld(), tmp_path, 0)),
        ("another seed", (config(), ToyWorld(), tmp_path, 1)),
    ):
        settings, world, folder, seed = arguments
        with pytest.raises(CheckpointError, match=message) as raised:
            train(settings, world, folder, seed=seed, say=quiet)
        assert "\n" not in str(raised.value)
    write_checkpoint(last, {**read_checkpoint(last, "toy"), "format": 0})
    with pytest.raises(CheckpointError, match="format 0"):
        read_checkpoint(last, "toy")
    last.write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        read_checkpoint(last, "toy")
    with pytest.raises(FileNotFoundError, match="train first"):
        read_checkpoint(tmp_path / "none.pt", "toy")


def test_checkpoints_load_with_weights_only_and_say_what_they_are(tmp_path: Path) -> None:
    train(config(), ToyWorld(), tmp_path, seed=5, say=quiet)
    for name in ("best.pt", "last.pt"):
        content = torch.load(tmp_path / name, weights_only=True)
        weights = content["policy"] if name == "best.pt" else content["algorithm"]["target_policy"]
        assert "features.mean" in weights and content["seed"] == 5 and content["config"] == config().model_dump()
        assert set(content["versions"]) == {"python", "torch", "numpy"}
    assert not list(tmp_path.glob("*.draft"))


def test_the_config_has_no_hidden_default_and_no_unknown_key() -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        TrainConfig(**SETTINGS, learning_rate=1.0)
    for key in SETTINGS:
        with pytest.raises(ValueError, match=key):
            TrainConfig(**{k: v for k, v in SETTINGS.items() if k != key})


# --- on the real community ---

SMALL = {
    "rollout_horizon": 5, "terminal_value": True, "coordination": "broadcast", "guard": True, "augment": True,
    "swap_share": 0.5, "updates": 2, "validate_every": 2, "batch": 4, "actor_units": 8, "critic_units": 8,
    "copies": 4, "collect_hours": 3, "warmup_hours": 1,
}  # fmt: skip


@pytest.mark.parametrize("horizon", [0, 5])
def test_a_policy_of_the_real_community_is_trained_kept_and_loaded(edition: str, horizon: int, tmp_path: Path) -> None:
    community = model(edition)  # float64: training makes its own float32 copy
    settings = config(**{**SMALL, "rollout_horizon": horizon})
    train(settings, community, tmp_path, seed=0, reference=BusinessAsUsual(), say=quiet)
    policy = load_policy(tmp_path / "last.pt", community)
    policy.reset(community)
    observations = Observer(community)(community.reset(3, torch.tensor([0, 500, 3000]), 10))
    actions = policy.act(observations)
    assert actions.shape == (3, community.homes, community.slots) and not actions.requires_grad
    assert (actions >= community.action_low).all() and (actions <= community.action_high).all()
    assert (actions[:, ~community.action_mask] == 0).all()
    content = read_checkpoint(tmp_path / "last.pt", community.fingerprint)
    assert torch.equal(policy.policy.features.scale, content["algorithm"]["target_policy"]["features.scale"])
    world = CommunityWorld(community.to(dtype=torch.float32), BusinessAsUsual())
    assert world.validate(policy.policy)["departures_met"] > 0.9
    with pytest.raises(ValueError, match="needs the reference controller"):
        train(settings, community, tmp_path / "other", seed=0, say=quiet)


def test_shared_actors_act_in_homes_they_were_not_trained_on(tmp_path: Path) -> None:
    env = dataset.load(find("official"))
    env.reset()
    few = Community(replicated(read_environment(env), Service.from_citylearn(env), 5)[0], torch.float32)
    whole = model("official", torch.float32)
    for shared in (True, False):
        switches = {"shared_actors": shared, "coordination": "broadcast", "guard": True, "habits": True}
        settings = config(**{**SMALL, **switches})
        folder = tmp_path / str(shared)
        train(settings, few, folder, seed=0, reference=BusinessAsUsual(), say=quiet)
    with pytest.raises(CheckpointError, match="was trained on community"):
        load_policy(tmp_path / "True" / "last.pt", whole)
    with pytest.raises(ValueError, match="know their own homes only"):
        load_policy(tmp_path / "False" / "last.pt", whole, trained_on=few)
    policy = load_policy(tmp_path / "True" / "last.pt", whole, trained_on=few)
    trained = load_policy(tmp_path / "True" / "last.pt", few)
    for ours, theirs in zip(policy.policy.actors.parameters(), trained.policy.actors.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert policy.policy.features.mean.shape[0] == 17 and torch.isfinite(policy.policy.features.mean).all()
    world = CommunityWorld(whole, BusinessAsUsual())
    assert world.validate(policy.policy)["departures_met"] > 0.98


def test_windows_stay_inside_train_blocks() -> None:
    world = CommunityWorld(model("official", torch.float32), BusinessAsUsual(), swap_share=1.0)
    hours = 48
    state, window = world.draw(500, hours, torch.Generator().manual_seed(0))
    inside = [(start <= state.row) & (state.row + hours < stop) for start, stop in blocks("train")]
    assert torch.stack(inside).any(0).all() and len(window) == hours + 1


@pytest.mark.parametrize("horizon", [0, 5])
def test_training_never_reads_a_test_row(horizon: int, tmp_path: Path) -> None:
    community = model("official", torch.float32).to()
    settings = config(**{**SMALL, "rollout_horizon": horizon})
    clean = train(settings, community, tmp_path / "clean", seed=0, reference=BusinessAsUsual(), say=quiet)
    community.table = community.table.clone()
    community.table[torch.from_numpy(split_of_rows(community.rows) == "test")] = float("nan")
    blind = train(settings, community, tmp_path / "blind", seed=0, reference=BusinessAsUsual(), say=quiet)
    first, second = (flat(read_checkpoint(folder / "last.pt", community.fingerprint)) for folder in (clean, blind))
    assert [name for name in first if name != "/seconds" and not equal(first[name], second[name])] == []


def test_a_home_of_the_real_community_decides_alone() -> None:
    community = model("official", torch.float32)
    world = CommunityWorld(community, BusinessAsUsual())
    settings = config(**{**SMALL, "coordination": "none"})
    household = world.make_household(world.guard_settings(settings))
    shape = (community.homes, max(map(len, community.observation_names)))
    policy = build_policy(settings, world, household, torch.zeros(shape), torch.ones(shape))
    state, window = world.draw(16, 3, torch.Generator().manual_seed(0))
    observations = world.observe(state, window[0])
    moved = observations + torch.rand_like(observations)
    for home in (0, 3, 14, 16):
        moved[:, home] = observations[:, home]
        assert torch.equal(policy(moved)[:, home], policy(observations)[:, home])
