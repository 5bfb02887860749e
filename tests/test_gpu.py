"""What only a GPU can show: the model and every learner do there what they do on the CPU. Skipped without one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import test_independent
import test_marlisa
import test_training
import torch
from conftest import equal, flat, model

from thesis_lib.analysis.learner import repeatable
from thesis_lib.community.observations import Observer
from thesis_lib.controllers import LEARNERS
from thesis_lib.controllers.rules import BusinessAsUsual
from thesis_lib.maddpg.training import Run, load_policy, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this PyTorch sees no CUDA GPU")

GPU = "cuda:0"
BUDGET = {"updates": 4, "validate_every": 2}
OURS = {**test_training.SMALL, **BUDGET, "habits": True}
THEIRS = {**test_independent.SMALL, **BUDGET}
KINDS: dict[str, tuple[type[Run], Any]] = {
    "rolled": (Run, test_training.config(**OURS | {"coordination": "announce", "actor_optimiser": "muon"})),
    "compiled": (Run, test_training.config(**OURS, compile=True)),
    "maddpg": (Run, test_training.config(**OURS | {"rollout_horizon": 0})),
    "independent_td3": (LEARNERS["independent_td3"], test_independent.config("td3", **THEIRS)),
    "independent_sac": (LEARNERS["independent_sac"], test_independent.config("sac", **THEIRS)),
    "marlisa": (LEARNERS["marlisa"], test_marlisa.config(**THEIRS | {"warmup_hours": 6, "collect_hours": 10})),
}
EVERY_KIND = pytest.mark.parametrize("name", KINDS)


@pytest.fixture(autouse=True)
def as_the_pipeline_trains() -> Iterator[None]:
    repeatable(GPU)
    yield
    torch.use_deterministic_algorithms(False)


@cache
def world(name: str, device: str) -> Any:
    kind, config = KINDS[name]
    return kind.world_of(config, model("auto").to(device, torch.float32), BusinessAsUsual())


def begun(name: str, device: str, seed: int = 0) -> Run:
    kind, config = KINDS[name]
    return kind(config, world(name, device), seed)


def until(run: Run, updates: int) -> Run:
    while run.updates < updates:
        run.iterate()
    return run


def largest(one: tuple, other: tuple) -> float:
    """The largest difference between two states, or two hours' flows, relative to what differs or to 1."""
    pairs = [(a.cpu().double(), b.cpu().double()) for a, b in zip(one, other, strict=True) if torch.is_tensor(a)]
    return max(float(((a - b).abs() / a.abs().clamp(min=1)).max()) for a, b in pairs if a.numel())


@pytest.mark.parametrize(("dtype", "bar"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_the_community_is_the_same(dtype: torch.dtype, bar: float) -> None:
    communities = [model("auto", dtype), model("auto", dtype).to(GPU)]
    starts, hours = torch.tensor([0, 1234, 5000, 7777]), 72
    states = [c.reset(len(starts), starts.to(c.device), hours) for c in communities]
    watch = [Observer(c) for c in communities]
    shape, draw = (len(starts), communities[0].homes, communities[0].slots), torch.Generator().manual_seed(0)
    for _ in range(hours):
        seen = [observe(state) for observe, state in zip(watch, states, strict=True)]
        assert largest((seen[0],), (seen[1],)) < bar
        actions = torch.rand(shape, generator=draw, dtype=dtype) * 2 - 1
        after = [c.step(state, actions.to(c.device)) for c, state in zip(communities, states, strict=True)]
        states = [state for state, _ in after]
        assert largest(*states) < bar and largest(*(flows for _, flows in after)) < bar


@EVERY_KIND
def test_a_first_update_is_the_same(name: str) -> None:
    """Its losses: later ones part, as rounding does."""
    here, there = (until(begun(name, device), 1) for device in ("cpu", GPU))
    assert here.sums.keys() == there.sums.keys() and here.sums
    for loss, value in here.sums.items():
        assert there.sums[loss] == pytest.approx(value, rel=2e-3, abs=2e-4), loss


@EVERY_KIND
def test_the_same_seed_gives_the_same_and_a_stopped_run_goes_on_bit_for_bit(name: str) -> None:
    whole, again = (flat(until(begun(name, GPU), 4).state_dict()) for _ in range(2))
    stopped = until(begun(name, GPU), 2).state_dict()
    halves = begun(name, GPU, seed=9)  # another seed: all that matters must come from the state
    halves.load_state_dict(stopped)
    resumed = flat(until(halves, 4).state_dict())
    named = [key for key in whole if key.split("/")[1] in ("algorithm", "replay", "random", "updates")]
    assert len(named) > 20
    for other in (again, resumed):
        assert [key for key in named if not equal(whole[key], other[key])] == []


@EVERY_KIND
def test_what_was_trained_there_acts_here(name: str, tmp_path: Path) -> None:
    kind, config = KINDS[name]
    community = model("auto", torch.float32)
    train(config, model("auto"), tmp_path, seed=0, device=GPU, reference=BusinessAsUsual(), say=print, kind=kind)
    observations = Observer(community)(community.reset(3, torch.tensor([0, 500, 3000]), 10))
    actions = []
    for device in ("cpu", GPU):
        policy = load_policy(tmp_path / "last.pt", community, device, kind=kind)
        policy.reset(community)
        actions.append(policy.act(observations))
    torch.testing.assert_close(*actions, atol=1e-4, rtol=0)
