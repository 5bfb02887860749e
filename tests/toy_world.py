"""A community small enough to know the best that can be done: each home holds a store that should be empty.

x' = x + a / 2 + noise-free; reward = - mean over homes of (x'^2 + 0.1 a^2). Discounted linear-quadratic control: the
best action is linear in the own store and its value comes from a scalar Riccati equation, so centralised and
decentralised optimum are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

GAIN, EFFORT = 0.5, 0.1


def riccati(discount: float) -> tuple[float, float]:
    """Feedback k (a = -k x) and value P (cost-to-go P x^2) of the best policy."""
    value = 1.0
    for _ in range(10_000):
        weight = 1.0 + discount * value
        gain = weight * GAIN / (EFFORT + weight * GAIN**2)
        value = weight * (1.0 - GAIN * gain) ** 2 + EFFORT * gain**2
    return gain, value


class ToyWorld:
    """H homes; each observes its own store and a constant, and has one action; the second slot exists in none."""

    fingerprint = "toy"

    def __init__(self, homes: int = 3, discount: float = 0.9):
        self.homes, self.discount = homes, discount
        self.observation_names = [["store", "one"] for _ in range(homes)]
        self.action_mask = torch.tensor([[True, False]] * homes)
        self.action_low = torch.tensor([[-3.0, 0.0]] * homes)
        self.action_high = torch.tensor([[3.0, 0.0]] * homes)
        self.device = torch.device("cpu")
        self.validations = 0

    def guard_settings(self, config: object) -> dict:
        return {}

    def make_household(self, settings: dict) -> None:
        return None

    def draw(self, batch: int, hours: int, generator: torch.Generator) -> tuple[Tensor, list[None]]:
        return 2 * torch.rand(batch, self.homes, generator=generator) - 1, [None] * (hours + 1)

    def observe(self, state: Tensor, hour: None) -> Tensor:
        return torch.stack([state, torch.ones_like(state)], 2)

    def step(self, state: Tensor, actions: Tensor, hour: None) -> tuple[Tensor, Tensor]:
        after = state + GAIN * actions[..., 0]
        return after, -(after.square() + EFFORT * actions[..., 0].square()).mean(1)

    def cost(self, policy: object, hours: int = 60) -> float:
        """Discounted cost over the best possible, from a grid of stores."""
        state = torch.linspace(-1, 1, 41).unsqueeze(1).expand(-1, self.homes)
        first, total = state, torch.zeros(len(state))
        with torch.no_grad():
            for hour in range(hours):
                state, reward = self.step(state, policy(self.observe(state, None)), None)  # type: ignore[operator]
                total -= self.discount**hour * reward
        _, value = riccati(self.discount)
        return float(total.mean() / (value * first.square().mean()))

    def validate(self, policy: object) -> dict[str, float]:
        self.validations += 1
        return {"composite": self.cost(policy), "passes": 1.0}
