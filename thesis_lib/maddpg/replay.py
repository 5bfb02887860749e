"""Replay memory: a ring of transitions shared by all homes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Transitions of the whole community.

    ============  =============  =========================================
    observations  (N, H, O)      what each home saw
    actions       (N, H, S)      what was done, after the guard
    reward        (N,) or (N, H) the team's reward or each home's, summed with discount over the hours of the return
    following     (N, H, O)      what each home saw after them
    ============  =============  =========================================

    Nothing here ends: days follow days, so every transition bootstraps from what follows.
    """

    observations: Tensor
    actions: Tensor
    reward: Tensor
    following: Tensor


class Replay:
    """The last ``capacity`` transitions, kept on one device."""

    def __init__(
        self, capacity: int, homes: int, observations: int, slots: int, device: str = "cpu", individual: bool = False
    ):
        """``individual``: there is a reward for each home."""
        self.capacity, self.size, self.position = capacity, 0, 0
        self.memory = Batch(
            torch.zeros(capacity, homes, observations, device=device),
            torch.zeros(capacity, homes, slots, device=device),
            torch.zeros((capacity, homes) if individual else capacity, device=device),
            torch.zeros(capacity, homes, observations, device=device),
        )

    def add(self, batch: Batch) -> None:
        """Store the N transitions of ``batch``, over the oldest ones when full."""
        count = len(batch.reward)
        where = (self.position + torch.arange(count, device=self.memory.reward.device)) % self.capacity
        for store, values in zip(self.memory, batch, strict=True):
            store[where] = values
        self.position = (self.position + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def sample(self, count: int, generator: torch.Generator) -> Batch:
        """Draw ``count`` transitions with replacement; the generator is a CPU one.

        Raises:
            ValueError: the memory is empty.
        """
        if self.size == 0:
            raise ValueError("the replay memory is empty: store transitions before sampling")
        where = torch.randint(self.size, (count,), generator=generator).to(self.memory.reward.device)
        return Batch(*(store[where] for store in self.memory))

    def state_dict(self) -> dict:
        """What is stored and where the ring stands."""
        filled = {name: store[: self.size].clone() for name, store in self.memory._asdict().items()}
        return {"size": self.size, "position": self.position, **filled}

    def load_state_dict(self, state: dict) -> None:
        """Put back what ``state_dict`` returned."""
        self.size, self.position = state["size"], state["position"]
        for name, store in self.memory._asdict().items():
            store[: self.size] = state[name]
