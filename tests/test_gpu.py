"""The model and every learner do on a GPU what they do on the CPU; without one, a stand-in shows what it can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import test_independent
import test_marlisa
import test_training
import torch
from conftest import equal, flat, model
from stand_in import elsewhere, held

from thesis_lib.analysis.learner import repeatable
from thesis_lib.community.model import Community
from thesis_lib.community.observations import Observer
from thesis_lib.controllers import LEARNERS
from thesis_lib.controllers.rules import BusinessAsUsual
from thesis_lib.maddpg.captured import FIRST, CapturedRun
from thesis_lib.maddpg.training import Run, load_policy, train

GPU = "cuda:0"
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="this PyTorch sees no CUDA GPU")
LONG = FIRST + 3  # updates, so that some are recorded ones
BUDGET = {"updates": LONG, "validate_every": 2}
OURS = {**test_training.SMALL, **BUDGET, "habits": True}
THEIRS = {**test_independent.SMALL, **BUDGET}
REPLAYED = {"rollout_horizon": 0, "critics": "per_agent", "return_hours": 2}
KINDS: dict[str, tuple[type[Run], Any]] = {
    "announce": (Run, test_training.config(**OURS | {"coordination": "announce", "actor_optimiser": "muon"})),
    "attention": (Run, test_training.config(**OURS | {"coordination": "attention", "shared_actors": True})),
    "late": (Run, test_training.config(**OURS | {"broadcast_delay": 1})),
    "compiled": (Run, test_training.config(**OURS, compile=True)),
    "captured": (CapturedRun, test_training.config(**OURS | {"coordination": "announce", "actor_optimiser": "muon"})),
    "captured late": (CapturedRun, test_training.config(**OURS | {"broadcast_delay": 1, "compile": True})),
    "maddpg": (Run, test_training.config(**OURS | REPLAYED)),
    "independent_td3": (LEARNERS["independent_td3"], test_independent.config("td3", **THEIRS)),
    "independent_sac": (LEARNERS["independent_sac"], test_independent.config("sac", **THEIRS)),
    "marlisa": (LEARNERS["marlisa"], test_marlisa.config(**THEIRS | {"warmup_hours": 6, "collect_hours": 10})),
}
EVERY_KIND = pytest.mark.parametrize("name", KINDS)


# Devices that are not the CPU.
ELSEWHERE = pytest.mark.parametrize("there", ["stand-in", pytest.param(GPU, marks=NEEDS_GPU)])


def reached(there: str) -> Any:
    """In its context the device of that name can be used."""
    return elsewhere() if there == "stand-in" else nullcontext(there)


@pytest.fixture(autouse=True)
def as_the_pipeline_trains() -> Iterator[None]:
    repeatable(GPU if torch.cuda.is_available() else "cpu")
    yield
    torch.use_deterministic_algorithms(False)


@cache
def world(world_of: Any, kind: type[Run], device: str) -> Any:
    """One for all the kinds that make theirs by the same function."""
    config = next(config for other, config in KINDS.values() if other is kind)
    return world_of(kind, config, model("auto").to(device, torch.float32), BusinessAsUsual())


def begun(name: str, device: str, seed: int = 0) -> Run:
    kind, config = KINDS[name]
    kind = Run if kind is CapturedRun and device == "cpu" else kind
    first = next(other for other, _ in KINDS.values() if other.world_of.__func__ is kind.world_of.__func__)
    return kind(config, world(kind.world_of.__func__, first, str(device)), seed)


def until(run: Run, updates: int) -> Run:
    while run.updates < updates:
        run.iterate()
    return run


def largest(one: tuple, other: tuple) -> float:
    """The largest difference between two states, or two hours' flows, relative to what differs or to 1."""
    pairs = [(a.double(), held(b).cpu().double()) for a, b in zip(one, other, strict=True) if torch.is_tensor(a)]
    return max(float(((a - b).abs() / a.abs().clamp(min=1)).max()) for a, b in pairs if a.numel())


@ELSEWHERE
@pytest.mark.parametrize(("dtype", "bar"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_the_community_is_the_same(dtype: torch.dtype, bar: float, there: str) -> None:
    with reached(there) as device:
        assert_the_same([model("auto", dtype), model("auto", dtype).to(device)], dtype, bar)


def assert_the_same(communities: list[Community], dtype: torch.dtype, bar: float) -> None:
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


@ELSEWHERE
@EVERY_KIND
def test_a_first_update_is_the_same(name: str, there: str) -> None:
    """Its losses: later ones part on a GPU, as rounding does. And a run can be put back there."""
    if there != GPU and (name == "compiled" or name.startswith("captured")):
        pytest.skip("for a stand-in nothing is compiled or recorded")
    here = until(begun(name, "cpu"), 1)
    with reached(there) as device:
        far = until(begun(name, device), 1)
        assert far.sums.keys() == here.sums.keys() and here.sums
        assert far.sums == pytest.approx(here.sums, rel=2e-3, abs=2e-4)
        resumed = begun(name, device, seed=9)
        resumed.load_state_dict(far.state_dict())
        assert until(resumed, 2).updates >= 2


@NEEDS_GPU
@EVERY_KIND
def test_the_same_seed_gives_the_same_and_a_stopped_run_goes_on_bit_for_bit(name: str) -> None:
    whole, again = (flat(until(begun(name, GPU), LONG).state_dict()) for _ in range(2))
    stopped = until(begun(name, GPU), 2).state_dict()
    halves = begun(name, GPU, seed=9)  # another seed: all that matters must come from the state
    halves.load_state_dict(stopped)
    resumed = flat(until(halves, LONG).state_dict())
    named = [key for key in whole if key.split("/")[1] in ("algorithm", "replay", "random", "updates")]
    assert len(named) > 20
    for other in (again, resumed):
        assert [key for key in named if not equal(whole[key], other[key])] == []


@NEEDS_GPU
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


def test_the_stand_in_notices_what_a_gpu_would() -> None:
    with elsewhere() as device:
        far, near = torch.ones(3, device=device), torch.ones(3)
        assert (far.to("cpu") + near).tolist() == [2.0] * 3 and (far + 1).sum().item() == 6
        assert far[torch.tensor([0, 2])].tolist() == [1.0, 1.0]
        with pytest.raises(RuntimeError, match="tensors on two devices"):
            far + near
        with pytest.raises(RuntimeError, match="tensors on two devices"):
            near[torch.tensor([0, 2], device=device)]
