"""A controller whose homes have bad meters: noisy readings, and hours in which none arrive.

Shapes: B copies, H homes, O observations, S action slots.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from thesis_lib.community.model import Community
from thesis_lib.controllers import Controller

# What a home's own meters read. Clock, tariff, weather and what a driver has said (when, how full) are no readings.
METERED = re.compile(
    r"non_shiftable_load|solar_generation|net_electricity_consumption|electrical_storage_soc"
    r"|connected_electric_vehicle_at_charger_.+(?<!arrival)_soc"
)


class Disturbed:
    """Any controller, seeing through bad meters.

    Noise is Gaussian and independent from hour to hour. Where the readings of a home do not arrive, it goes on with
    those it received last. States of charge stay between 0 and 1, load and PV at 0 or above; the mark for "no car
    here" (below 0) is not a reading and stays.
    """

    def __init__(self, controller: Controller, deviation: Tensor, noise: float, missing: float, seed: int) -> None:
        """``deviation`` (H, O): of each observation over time; ``noise``: in units of it; ``missing``: share of hours.

        Raises
        ------
        ValueError
            For a negative noise, or a share outside [0, 1).
        """
        if noise < 0 or not 0 <= missing < 1:
            raise ValueError(f"noise must be at least 0 and missing in [0, 1), not {noise} and {missing}")
        self.controller, self.deviation, self.noise, self.missing, self.seed = (
            controller,
            deviation,
            noise,
            missing,
            seed,
        )

    def reset(self, community: Community) -> None:
        """Begin an episode with the same sequence of errors."""
        self.controller.reset(community)
        names = community.observation_names
        width = max(map(len, names))

        def columns(pattern: re.Pattern[str]) -> Tensor:  # (H, O) bool
            rows = [[bool(pattern.fullmatch(n)) for n in home] + [False] * (width - len(home)) for home in names]
            return torch.tensor(rows, device=community.device)

        self.metered = columns(METERED)
        self.bounded = columns(re.compile(r".*_soc")) & self.metered
        self.positive = columns(re.compile(r"non_shiftable_load|solar_generation"))
        self.generator = torch.Generator().manual_seed(self.seed)
        self.received: Tensor | None = None

    def act(self, observations: Tensor) -> Tensor:
        """Observations (B, H, O) to the controller's actions (B, H, S), after what the meters make of them."""
        batch, homes, _ = observations.shape
        errors = torch.randn(observations.shape, generator=self.generator).to(observations)
        lost = torch.rand(batch, homes, 1, generator=self.generator).to(observations.device) < self.missing
        seen = observations + self.noise * self.deviation.to(observations) * errors
        seen = torch.where(self.bounded, seen.clamp(0.0, 1.0), torch.where(self.positive, seen.clamp_min(0.0), seen))
        seen = torch.where(self.metered & ~(self.bounded & (observations < 0)), seen, observations)
        if self.received is not None:
            seen = torch.where(lost & self.metered, self.received, seen)
        self.received = seen
        return self.controller.act(seen)
