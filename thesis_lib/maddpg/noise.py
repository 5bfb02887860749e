"""Exploration noise: independent between copies, homes and slots; Ornstein-Uhlenbeck noise is correlated in time."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

NoiseKind = Literal["gaussian", "ou"]


class Noise:
    """Additive action noise of stationary standard deviation ``scale``.

    ``ou`` is x' = x - theta x + sigma n with sigma chosen so that the stationary deviation is ``scale`` too
    (Uhlenbeck and Ornstein 1930, used for exploration by Lillicrap et al. 2016), ``gaussian`` is its limit
    theta = 1. Sampled with the caller's generator, so that a resumed run draws the same numbers.
    """

    def __init__(self, kind: NoiseKind, scale: float, shape: tuple[int, ...], theta: float = 0.15):
        """``shape``: (batch, home, slot); ``scale``: in units of the action."""
        if kind not in ("gaussian", "ou"):
            raise ValueError(f"unknown noise {kind!r}: use gaussian or ou")
        self.theta = theta if kind == "ou" else 1.0
        self.sigma = scale * (1.0 - (1.0 - self.theta) ** 2) ** 0.5
        self.value = torch.zeros(shape)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Next value, (batch, home, slot), on the CPU."""
        fresh = torch.randn(self.value.shape, generator=generator)
        self.value = (1.0 - self.theta) * self.value + self.sigma * fresh
        return self.value
