"""The peer that training is timed against really learns: each of its pairs, at each step; and so do we, to a level.

The service's benchmark notices a policy over HTTP that is not the one in process.
"""

from __future__ import annotations

import json
import random
import runpy
import shutil
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import find, model
from served import checkpoint, exported

from thesis_lib.analysis import learner
from thesis_lib.community import dataset
from thesis_lib.community.model import Community
from thesis_lib.community.observations import Observer
from thesis_lib.config import load_config
from thesis_lib.controllers import LEARNERS
from thesis_lib.controllers.rules import BusinessAsUsual
from thesis_lib.maddpg.training import CommunityWorld, Run, TrainConfig

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TRAINING = runpy.run_path(str(BENCHMARKS / "training.py"))
INDEPENDENT = runpy.run_path(str(BENCHMARKS / "independent.py"))
SERVICE = runpy.run_path(str(BENCHMARKS / "service.py"))
WHERE = runpy.run_path(str(BENCHMARKS / "where.py"))


@pytest.mark.parametrize("name", ["model", "training", "independent"])
def test_an_edition_that_does_not_exist_is_told_in_a_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--edition", "foo"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
    assert "error: unknown edition 'foo': use one of auto, off" in capsys.readouterr().err.splitlines()[-1]


def parameters(agents: list, part: str) -> list[torch.Tensor]:
    return [torch.nn.utils.parameters_to_vector(getattr(agent, part).parameters()).detach().clone() for agent in agents]


def test_every_pair_of_the_usual_way_learns(edition: str) -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    env = dataset.load(find(edition), end=24)
    usual = TRAINING["UsualMADDPG"](env, batch=4, units=8)
    assert len(usual.agents) == len(usual.seen) == 17
    parts = ("actor", "critic", "target_actor", "target_critic")
    for _ in range(4):
        usual.step(learn=False)
    before = {part: parameters(usual.agents, part) for part in parts}
    usual.step()
    after = {part: parameters(usual.agents, part) for part in parts}
    for part in parts:
        moved = [float((new - old).abs().max()) for new, old in zip(after[part], before[part], strict=True)]
        assert min(moved) > 0, f"{part} of agent {moved.index(min(moved))} has not moved"
    # The targets follow: by the share of the way that they are told.
    for part in ("actor", "critic"):
        for target, old, new in zip(after[f"target_{part}"], before[part], after[part], strict=True):
            torch.testing.assert_close(target, old + TRAINING["TARGET_RATE"] * (new - old))
    # Beyond the end of the episode it goes on from the beginning, and all it remembers is a number within bounds.
    for _ in range(30):
        usual.step(learn=False)
    observations, actions, rewards, following = (np.stack(column) for column in zip(*usual.memory, strict=True))
    assert np.isfinite(observations).all() and np.isfinite(following).all() and np.isfinite(rewards).all()
    assert (actions >= usual.action_low).all() and (actions <= usual.action_high).all()
    assert rewards.shape == (35, 17) and rewards.std() > 0


def test_the_usual_ways_critics_learn_their_own_home() -> None:
    """With the rewards of one home alone, that home's critic is the one whose estimate grows."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    usual = TRAINING["UsualMADDPG"](dataset.load(find("offline"), end=24), batch=8, units=16)
    for _ in range(16):
        usual.step(learn=False)
    for *_, rewards, _ in usual.memory:
        rewards[:] = 0.0
        rewards[3] = 1.0
    everything = torch.from_numpy(np.stack([np.concatenate([o, a]) for o, a, _, _ in usual.memory]))
    with torch.no_grad():
        before = torch.stack([agent.critic(everything).mean() for agent in usual.agents])
    for _ in range(30):
        usual.update()
    with torch.no_grad():
        grown = torch.stack([agent.critic(everything).mean() for agent in usual.agents]) - before
    assert int(grown.argmax()) == 3 and grown[3] > 0.5


def test_the_minutes_to_the_rules_level_are_those_of_a_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # the benchmark sets it for its own process
    settings = load_config("test").train_for("broadcast")
    level = TRAINING["measure_level"](0, find("offline"), TrainConfig(**settings), str(tmp_path), 1)
    assert 0.5 < level["rule"] < 1.0  # better than business as usual
    assert 1 <= level["updates"] <= settings["updates"]
    # It ends when the level is reached, or with the budget.
    assert level["composite"] <= level["rule"] if "minutes" in level else level["updates"] == settings["updates"]


def test_the_usual_ways_actors_are_validated_as_they_act(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    source = find("offline")
    usual = TRAINING["UsualMADDPG"](dataset.load(source, end=24), batch=4, units=8)
    monkeypatch.setattr(np.random, "standard_normal", np.zeros)  # no exploration
    community = Community.from_citylearn(dataset.load(source, end=24))
    seen = Observer(community)(community.reset(batch=1))
    actions = TRAINING["UsualPolicy"](usual, community.slots)(seen)
    assert actions.shape == (1, community.homes, community.slots) and actions.abs().max() > 0
    torch.testing.assert_close(actions[0][community.action_mask].float(), torch.from_numpy(usual.act()))
    assert not actions[0][~community.action_mask].any()


def test_the_usual_way_gives_up_when_its_minutes_are_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    config = TrainConfig(**load_config("test").train_for("broadcast"))
    level = TRAINING["measure_usual_level"](0, find("offline"), config, str(tmp_path), 1, 0.02)
    assert "minutes" not in level and level["spent"] >= 0.02 and level["steps"] >= 1
    assert level["composite"] >= level["lowest"] > 0.5 and level["departures_met"] < 0.99  # nothing is learned in hours


def test_a_whole_training_is_the_pipelines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    settings = load_config("test").train_for("broadcast")
    whole = TRAINING["measure_whole"](0, find("offline"), TrainConfig(**settings), str(tmp_path), "cpu")
    assert whole["updates"] == settings["updates"] and 0 < whole["minutes"] < 5
    assert whole["departures_met"] >= 0.99 and 0.5 < whole["composite"] < 1.0


def test_every_moment_of_an_update_counts_for_one_part(tmp_path: Path) -> None:
    options = ["--quick", "--edition", "offline", "--profile", "test"]
    WHERE["main"]([*options, "--output", str(tmp_path / "where.json")])
    record = json.loads((tmp_path / "where.json").read_text())
    figures, rows, kinds = record["figures"], record["rows"], record["operators"]
    assert [row["part"] for row in rows] == list(WHERE["PARTS"]) and min(row["s"] for row in rows) > 0
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert sum(row["s"] for row in rows) == pytest.approx(figures["uncompiled_s_per_update"], abs=1e-4)
    shares = [kind["share"] for kind in kinds]
    assert len(kinds) == 10 and shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) < figures["uncompiled_operators_share"] < 1
    assert figures["uncompiled_operators_per_update"] > 1000 and record["config"]["batch"] == 4
    saving = 5 * figures["uncompiled_s_per_update"] / figures["seeds_s_per_update"]
    assert figures["seeds_saving"] == pytest.approx(saving, rel=1e-2)


def test_an_update_that_is_timed_is_the_same_update() -> None:
    settings = load_config("test").train_for("broadcast") | {"batch": 4, "rollout_horizon": 3, "compile": False}
    policies = []
    for timed in (False, True):
        world = CommunityWorld(model("offline", torch.float32), BusinessAsUsual())
        run = Run(TrainConfig(**settings), world, seed=0)
        if timed:
            WHERE["take_turns"]({"uncompiled": run}, 2, 1)
        while run.updates < 3:
            run.iterate()
        policies.append(torch.nn.utils.parameters_to_vector(run.algorithm.policy.parameters()).detach())
    assert torch.equal(*policies)


@pytest.mark.parametrize("name", ["independent_td3", "independent_sac"])
def test_every_home_of_stable_baselines_learns_from_its_own_hours(name: str) -> None:
    small = {"copies": 4, "collect_hours": 6, "warmup_hours": 4, "batch": 8, "replay_capacity": 80, "habits": False}
    settings = learner.settings_of(load_config("thesis"), "default", name) | small | {"guard": False}
    kind = LEARNERS[name]
    config = kind.Config(**settings)
    world = kind.world_of(config, model("offline", torch.float32), BusinessAsUsual())
    eyes = kind(config, world, seed=0).algorithm.policy
    theirs = INDEPENDENT["PerHome"](name, config, world, lambda seen: eyes.read(eyes.see(seen)))
    vector = torch.nn.utils.parameters_to_vector
    networks = [(net.actor, net.critic) for net in theirs.models]
    before = [[vector(net.parameters()).detach().clone() for net in home] for home in networks]
    assert theirs.collect(learn=False) == 0
    rewards = np.stack([net.replay_buffer.rewards[:6] for net in theirs.models])
    assert len(np.unique(rewards.round(6).reshape(17, -1), axis=0)) == 17  # each home its own
    assert theirs.collect() == 6 * config.updates_per_hour
    moved = [
        [float((vector(net.parameters()).detach() - was).abs().max()) for net, was in zip(home, old, strict=True)]
        for home, old in zip(networks, before, strict=True)
    ]
    assert min(map(min, moved)) > 0


def test_a_year_over_http_is_the_year_in_process(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = shutil.copytree(exported(tmp_path_factory), tmp_path / "served")
    source = find("offline")
    found = SERVICE["year"](folder, source, 71)
    assert found["year_kpi_difference"] <= SERVICE["SAME"] and 0 < found["year_http_share"] < 1
    # Other weights in process than behind HTTP.
    checkpoint(folder / "best.pt", seed=1)
    assert SERVICE["year"](folder, source, 71)["year_kpi_difference"] > 1e-3


@pytest.mark.parametrize("difference", [0.0, 2e-6])
def test_the_services_benchmark_leaves_a_record_and_fails_where_a_kpi_differs(
    difference: float, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    year = {"year_kpi_difference": difference, "year_s": 1.0, "year_http_share": 0.1}
    monkeypatch.setitem(SERVICE["main"].__globals__, "year", lambda *_: year)
    monkeypatch.setattr(SERVICE["load"], "saturation", lambda *_: (1.0, []))
    options = ["--model", str(exported(tmp_path_factory)), "--seconds", "0.2", "--year"]
    monkeypatch.setattr(sys, "argv", ["service.py", *options, "--output", str(tmp_path / "service.json")])
    assert SERVICE["main"]() == int(difference > 1e-6)
    record = json.loads((tmp_path / "service.json").read_text())
    assert year.items() <= record["figures"].items() and record["config"]["seconds"] == 0.2
    wanted = "inference_p50_us request_p50_ms_at_500 request_p99_ms_at_500 saturation_rps rss_mb ready_s image_mb"
    assert set(wanted.split()) <= record["figures"].keys()


@pytest.mark.parametrize(("failed", "memory", "result"), [(0, 100.0, 0), (1, 100.0, 1), (0, 120.0, 1)])
def test_a_soak_fails_on_a_failed_request_and_on_memory_that_grows(
    failed: int, memory: float, result: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = SERVICE["load"]
    sizes = iter([100.0, memory, memory])
    statuses = Counter({200: 10, 0: failed})
    monkeypatch.setattr(load, "served", lambda folder: nullcontext(("", 0.0, None)))
    monkeypatch.setattr(load, "open_loop", lambda *_: load.Load(1.0, np.ones(10), statuses))
    monkeypatch.setattr(load, "resident_mb", lambda url: next(sizes))
    clock = iter([0.0, 0.0, 30.0, 30.0, 60.0, 60.0, 90.0])
    monkeypatch.setitem(SERVICE["soak"].__globals__, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert SERVICE["soak"](Path(), b"", 1.0, 60.0) == result
