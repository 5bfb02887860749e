"""What a home hears of the others before it acts. Only ``none`` is strictly local; the rest is communication.

Each mode turns the homes' own features (B, H, F) and observations (B, H, O) into the actors' inputs
(B, H, F + extra). What is sent each hour:

==============  =====================================================================================
``none``        nothing
``broadcast``   every meter to an aggregator; back come two sums, the district's last net consumption
                and its uncontrolled net (load - PV) of this hour
``announce``    the same, and what every home owes and holds: back come the sums of those too. Then, in a
                second round, what its cars and appliances are about to do; back comes the district's
                planned net, and every battery answers to it
``mean_field``  every home's features to an aggregator; back comes the mean of the others'
``attention``   every home's key and value to every home, which weighs them by its own query
==============  =====================================================================================
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from thesis_lib.maddpg.household import Household

Mode = Literal["none", "broadcast", "announce", "attention", "mean_field"]
NET, LOAD, PV = "net_electricity_consumption", "non_shiftable_load", "solar_generation"


def column_table(names: list[list[str]], name: str) -> Tensor:
    """Column of ``name`` in each home's list, (H,) long; -1 where the home has no such observation."""
    return torch.tensor([home.index(name) if name in home else -1 for home in names])


class Nothing(nn.Module):
    """``none``: a home's action depends on its own observation alone."""

    extra = 0

    def forward(self, own: Tensor, observations: Tensor) -> Tensor:
        """See the module."""
        return own


class Broadcast(nn.Module):
    """``broadcast``: two district sums, the same for all. ``late``: the second is that of the hour before.

    A late broadcast remembers what it summed; ``reset`` begins anew, and the first hour then hears its own sum.
    """

    columns: Tensor
    mean: Tensor
    scale: Tensor
    extra = 2

    def __init__(self, names: list[list[str]], mean: Tensor, scale: Tensor, late: bool):
        """``mean`` and ``scale`` (1 / deviation), both (H, O), normalise the homes' observations.

        Raises:
            ValueError: a home does not observe what is summed.
        """
        super().__init__()
        self.late = late
        self.before: Tensor | None = None  # (B,) the uncontrolled net of the hour before
        columns = torch.stack([column_table(names, name) for name in (NET, LOAD, PV)], 1)
        if (columns < 0).any():
            raise ValueError(f"coordination: broadcast needs every home to observe {NET}, {LOAD} and {PV}")
        self.register_buffer("columns", columns, persistent=False)
        spread = scale.gather(1, columns).clamp(min=1e-3).reciprocal().square().sum(0).sqrt()
        middle = mean.gather(1, columns).sum(0)
        self.register_buffer("mean", torch.stack([middle[0], middle[1] - middle[2]]))
        # Homes move together, so a district sum varies more than independent homes would.
        self.register_buffer("scale", 0.5 / torch.stack([spread[0], spread[1] + spread[2]]))

    def reset(self) -> None:
        """Forget the hour before."""
        self.before = None

    def last_net(self, observations: Tensor) -> Tensor:
        """The district's net consumption of the hour before, (B,) in kWh."""
        rows = torch.arange(observations.shape[1], device=observations.device) * observations.shape[2]
        return observations.flatten(1).index_select(1, rows + self.columns[:, 0]).sum(1)

    def sums(self, observations: Tensor) -> Tensor:
        """The broadcast (B, 2), normalised."""
        rows = torch.arange(observations.shape[1], device=observations.device) * observations.shape[2]
        net = self.last_net(observations)
        flat = observations.detach().flatten(1)  # no action changes load or sun
        uncontrolled = (flat[:, rows + self.columns[:, 1]] - flat[:, rows + self.columns[:, 2]]).sum(1)
        if self.late:
            now, uncontrolled = uncontrolled, uncontrolled if self.before is None else self.before
            self.before = now
        return (torch.stack([net, uncontrolled], 1) - self.mean) * self.scale

    def forward(self, own: Tensor, observations: Tensor) -> Tensor:
        """See the module."""
        return torch.cat([own, self.sums(observations).unsqueeze(1).expand(-1, own.shape[1], -1)], 2)


class Announce(Broadcast):
    """``announce``: the broadcast, the sums of what homes owe and hold, and a second round that batteries answer to.

    Cars and appliances decide in the first round. What they are about to take is known to their homes alone; the sum of
    it lets all batteries make room, each by a share that its actor says.
    """

    extra = 2 + len(Household.OWED)
    usual: Tensor
    LARGEST_SWING = 1.5  # of all batteries' power

    def __init__(self, names: list[list[str]], mean: Tensor, scale: Tensor, household: Household):
        """``household``: of the same community; the rest as in `Broadcast`."""
        super().__init__(names, mean, scale, late=False)
        self.household = household
        self.power = float((household.power * household.battery.sum(1)).sum())  # kWh a step
        self.register_buffer("usual", len(names) * torch.tensor(household.USUAL), persistent=False)

    def forward(self, own: Tensor, observations: Tensor) -> Tensor:
        """See the module; the first round."""
        owed = self.household.owed(observations).sum(1) / self.usual
        sums = torch.cat([self.sums(observations), owed], 1)
        return torch.cat([own, sums.unsqueeze(1).expand(-1, own.shape[1], -1)], 2)

    def swing(self, observations: Tensor, planned: Tensor) -> Tensor:
        """The second round: the homes' planned net (B, H) to the step the district is about to make, (B, 1, 1), over
        all batteries' power; negative where the net rises, so that a share of 1 discharges against it."""
        swing = (self.last_net(observations) - planned.sum(1)) / self.power
        return swing.clamp(-self.LARGEST_SWING, self.LARGEST_SWING).view(-1, 1, 1)


class MeanField(nn.Module):
    """``mean_field``: the mean of the other homes' features (Yang et al. 2018, with states in place of actions)."""

    def __init__(self, features: int):
        super().__init__()
        self.extra = features

    def forward(self, own: Tensor, observations: Tensor) -> Tensor:
        """See the module."""
        others = (own.sum(1, keepdim=True) - own) / max(own.shape[1] - 1, 1)
        return torch.cat([own, others], 2)


class Attention(nn.Module):
    """``attention``: one head of attention over the other homes, its maps shared by all (Iqbal and Sha 2019)."""

    SIZE = 16

    def __init__(self, features: int):
        super().__init__()
        self.extra = self.SIZE
        bound = 1 / math.sqrt(features)
        self.query, self.key, self.value = (
            nn.Parameter(torch.empty(1, features, self.SIZE).uniform_(-bound, bound)) for _ in range(3)
        )

    def forward(self, own: Tensor, observations: Tensor) -> Tensor:
        """See the module."""
        query, key, value = own @ self.query, own @ self.key, own @ self.value
        score = query @ key.mT / math.sqrt(self.SIZE)
        itself = torch.eye(own.shape[1], dtype=torch.bool, device=own.device)
        return torch.cat([own, score.masked_fill(itself, -1e9).softmax(2) @ value], 2)


def coordination(
    mode: Mode,
    names: list[list[str]],
    features: int,
    mean: Tensor,
    scale: Tensor,
    household: Household | None = None,
    late: bool = False,
) -> Nothing | Broadcast | MeanField | Attention:
    """The layer of a mode, by name; ``features`` is F, the rest as in `Broadcast` and `Announce`.

    Raises:
        ValueError: another mode, a broadcast of what is not observed, or an announcement without a household.
    """
    if mode == "none":
        return Nothing()
    if mode == "broadcast":
        return Broadcast(names, mean, scale, late)
    if mode == "announce":
        if household is None:
            raise ValueError("coordination: announce needs a household that says what its devices are about to do")
        return Announce(names, mean, scale, household)
    if mode == "mean_field":
        return MeanField(features)
    if mode == "attention":
        return Attention(features)
    raise ValueError(f"unknown coordination {mode!r}: use none, broadcast, announce, attention or mean_field")
