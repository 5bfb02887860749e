"""A whole update as one CUDA graph: it is thousands of kernels, too small to be started one by one.

The first updates run as on the CPU. Then one is recorded, kernels and addresses, and each update after it is a replay
(torch.cuda.CUDAGraph). What a replay reads anew must stay where it is: windows are copied to where the recorded one
lies, learning rates and the optimisers' counts are tensors on the GPU. Losses are read when the update is over: asking
for a number waits for the GPU, which cannot be recorded.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from thesis_lib.maddpg.algorithm import MADDPG
from thesis_lib.maddpg.training import Run

FIRST = 3  # updates before the recording: they compile, and make what the optimisers and cuBLAS keep
Result = TypeVar("Result")


class CapturedMADDPG(MADDPG):
    """`MADDPG` whose losses stay on the GPU, and are not looked at before the weights have moved."""

    def _descend(self, loss: Tensor, optimiser: torch.optim.Optimizer, network: nn.Module) -> Tensor:  # type: ignore[override]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), self.config.gradient_clip)
        optimiser.step()
        return loss.detach()


class CapturedRun(Run):
    """`Run` for a GPU: the same updates, started at once. At K = 0 nothing is recorded; checkpoints are the same.

    A state is put back before the first update, as `train` does: what is recorded reads the tensors that were there.
    """

    def __init__(self, config: Any, world: Any, seed: int):
        """As `Run`."""
        super().__init__(config, world, seed)
        if self.replay is not None:
            return
        self.algorithm = CapturedMADDPG(config, self.algorithm.policy, self.algorithm.critic)
        self.optimisers = (self.algorithm.actor_optimiser, self.algorithm.critic_optimiser)
        self.lr = [torch.zeros((), device=world.device) for _ in self.optimisers]
        self.begun = 0  # updates of this process, up to FIRST
        self.again: Callable[[], Any] | None = None  # start the recorded update
        self.start: dict[torch.dtype, list[Tensor]] = {}  # where it reads its window
        self.losses: dict[str, Any] = {}  # and where it leaves its losses

    def rates(self) -> None:
        """See `Run.rates`."""
        super().rates()
        if self.replay is not None:
            return
        for optimiser, rate in zip(self.optimisers, self.lr, strict=True):
            for group in optimiser.param_groups:
                rate.fill_(group["lr"])
                group["lr"] = rate
                if "capturable" in group:  # Adam's name for counts on the GPU
                    group["capturable"] = rate.is_cuda
            for state in optimiser.state.values():
                state["step"] = state["step"].to(rate.device)

    def iterate(self) -> None:
        """See `Run.iterate`.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        if self.replay is not None:
            super().iterate()
            return
        self.rates()
        start = self.world.draw(self.config.batch, self.config.rollout_horizon, self.generator)
        if self.begun < FIRST:
            self.begun += 1
            self.losses = beside(lambda: self.algorithm.update(world=self.world, start=start))
        else:
            if self.again is None:
                self.start = by_type(start)
                for optimiser in self.optimisers:
                    optimiser.zero_grad(set_to_none=True)  # gradients then lie in the recording's own memory
                self.again, self.losses = record(lambda: self.algorithm.update(world=self.world, start=start))
            else:
                for kind, tensors in by_type(start).items():
                    torch._foreach_copy_(self.start[kind], tensors)
            self.again()
        losses = {name: float(value) for name, value in self.losses.items()}
        if not all(map(math.isfinite, losses.values())):
            raise FloatingPointError(f"a loss of {losses}: look for a NaN in the data, or lower the learning rates")
        self.note(losses)

    def state_dict(self) -> dict[str, Any]:
        """See `Run.state_dict`: with the optimisers' settings as plain numbers, for the CPU to go on from too."""
        state = super().state_dict()
        if self.replay is None:
            for name in ("actor_optimiser", "critic_optimiser"):
                for group in state["algorithm"][name]["param_groups"]:
                    group["lr"] = float(group["lr"])
                    if "capturable" in group:
                        group["capturable"] = False
        return state


def by_type(start: Any) -> dict[torch.dtype, list[Tensor]]:
    """All tensors of a start (state, window) in order, by the type of their numbers, as they are copied in one go."""
    found: dict[torch.dtype, list[Tensor]] = defaultdict(list)
    for leaf in tree_leaves(start):
        if isinstance(leaf, Tensor):
            found[leaf.dtype].append(leaf)
    return found


def beside(work: Callable[[], Result]) -> Result:
    """Do ``work`` on a stream of its own, as a recording will: what autograd keeps must not be another stream's."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = work()
    torch.cuda.current_stream().wait_stream(stream)
    return result


def record(work: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
    """Record what ``work`` asks of the GPU, which computes nothing yet.

    Returns:
        What starts it all again, and where its results lie then.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return graph.replay, result
