"""Muon for stacks of matrices: every home's weight matrix moves by an orthogonal step of the same size.

Jordan et al. 2024 ("Muon: an optimizer for hidden layers in neural networks"). torch.optim.Muon takes single
matrices only; here a weight (H, in, out) is H of them, and all are orthogonalised in one batched iteration. A home
with small gradients, because it has no car, thus learns as fast as one with large ones. Vectors (biases) take
Adam's step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

MOMENTUM = 0.95
QUINTIC = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration, as published
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam


class Muon(torch.optim.Optimizer):
    """Parameters (copies, in, out) take orthogonal steps, those with in = 1 (biases) Adam's."""

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float):
        """``lr``: root mean square of a step's entries is a fifth of it, as Adam's usually is. ``weight_decay``, times
        ``lr``, is the share of a matrix that goes with each step."""
        super().__init__(list(params), {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:  # type: ignore[override]
        """One step along the gradients at hand; ``closure`` is not used."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["step"] = torch.zeros(())
                    state["momentum"] = torch.zeros_like(weight)
                    if weight.shape[1] == 1:
                        state["square"] = torch.zeros_like(weight)
                state["step"] += 1
                if weight.shape[1] == 1:
                    state["momentum"].lerp_(weight.grad, 1 - BETAS[0])
                    state["square"].lerp_(weight.grad.square(), 1 - BETAS[1])
                    first = state["momentum"] / (1 - BETAS[0] ** state["step"])
                    second = state["square"] / (1 - BETAS[1] ** state["step"])
                    weight.sub_(group["lr"] * first / (second.sqrt() + EPSILON))
                else:
                    state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
                    ahead = weight.grad.lerp(state["momentum"], MOMENTUM)
                    size = 0.2 * max(weight.shape[1:]) ** 0.5
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.sub_(group["lr"] * size * orthogonal(ahead))


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The nearest matrices (copies, in, out) whose singular values are all near 1, by a Newton-Schulz iteration."""
    wide = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if wide else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-12)
    a, b, c = QUINTIC
    for _ in range(iterations):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if wide else x
