"""Where every learner starts: what a careful household does by itself, and the guard. Nothing in it is learned.

A policy whose actors still say nothing acts so (`thesis_lib.maddpg.networks.Policy`): cars charge evenly until they
leave, appliances start as soon as they may, the guard raises what cannot wait, and the battery cancels what is left of
the home's net. What a learner reaches below this controller's rows is what learning brought.

Shapes: B copies, H homes, O observations, S action slots.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import torch
from torch import Tensor

from thesis_lib.community.model import Community
from thesis_lib.community.splits import blocks
from thesis_lib.maddpg import guard as guards
from thesis_lib.maddpg import household as households


class Habits:
    """The habits and the guard of an untrained policy, as a `Controller`."""

    # Files besides this one that decide what it does, for the recipe of a run.
    code = tuple(Path(inspect.getfile(module)).resolve() for module in (guards, households))

    def __init__(self, tolerance: float = 0.04) -> None:
        """``tolerance``: SOC below the required one that the guard accepts; the learner's ``guard_tolerance``."""
        self.tolerance = tolerance

    def reset(self, community: Community) -> None:
        """Begin an episode: the guard's pace is fitted on train rows, as a learner's.

        Raises:
            ValueError: a home does not observe what its habits need.
        """
        pace = guards.fit_undisclosed_pace(community, blocks("train", community.rows))
        household = households.household_of(community, pace, tolerance=self.tolerance)
        self.household = household.to(community.device)
        self.low, self.high = community.action_low.float(), community.action_high.float()

    def act(self, observations: Tensor) -> Tensor:
        """Observations (B, H, O) to actions (B, H, S)."""
        with torch.no_grad():
            seen = observations.float()  # the guard's tables are
            _, habit, least = self.household.see(seen)
            actions = torch.maximum(habit.clamp(self.low, self.high), least)
            cover = self.household.cover(self.household.planned(seen, actions))
            answered = cover.unsqueeze(2).clamp(self.low, self.high)
            return torch.where(self.household.battery > 0, answered, actions).to(observations)
