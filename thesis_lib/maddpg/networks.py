"""The networks: what a home makes of its own observation, all actors in one batched operation, the twin critic."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from thesis_lib.maddpg.guard import Guard

Coordination = Literal["none", "broadcast"]

# Observations that every home shares: the critic reads them once.
COMMUNITY_WIDE = ("month", "day_type", "hour", "outdoor", "diffuse", "direct", "carbon", "electricity_pricing")
NET, LOAD, PV = "net_electricity_consumption", "non_shiftable_load", "solar_generation"
PRICES = tuple(f"electricity_pricing{suffix}" for suffix in ("", "_predicted_1", "_predicted_2", "_predicted_3"))


def column_table(names: list[list[str]], name: str) -> Tensor:
    """Column of ``name`` in each home's list, (H,) long; -1 where the home has no such observation."""
    return torch.tensor([home.index(name) if name in home else -1 for home in names])


class Features(nn.Module):
    """What a home's actor reads: its own observation, normalised, and what follows from it.

    ============  =========  ==========================================================================
    observations  (B, H, O)  CityLearn's lists, padded with 0
    returns       (B, H, F)  normalised columns, then: hour and month on a circle, weekend, price now minus
                             its 6, 12 and 24 h forecasts, uncontrolled net; for each charger hours left,
                             SOC still to gain, and the least action the guard admits in each slot
    ============  =========  ==========================================================================

    The normaliser (``mean``, ``deviation``, both (H, O)) is fitted on train rows and saved with the weights.
    """

    mean: Tensor
    scale: Tensor
    clock_columns: Tensor
    price_columns: Tensor
    charger_place: Tensor
    critic_columns: Tensor

    def __init__(self, names: list[list[str]], mean: Tensor, deviation: Tensor, guard: Guard | None):
        super().__init__()
        homes, width = mean.shape
        present = torch.tensor([[column < len(home) for column in range(width)] for home in names])
        self.register_buffer("mean", mean.clone())
        self.register_buffer("scale", torch.where(present & (deviation > 1e-6), 1.0 / deviation.clamp(min=1e-6), 0.0))
        self.guard = guard
        labels = [home + [""] * (width - len(home)) for home in names]
        self.clock = all("hour" in home and "month" in home and "day_type" in home for home in names)
        self.prices = all(price in home for home in names for price in PRICES)
        derived: list[str] = []
        if self.clock:
            clock = torch.stack([column_table(names, name) for name in ("hour", "month", "day_type")], 1)
            self.register_buffer("clock_columns", clock, persistent=False)
            derived += ["hour_sin", "hour_cos", "month_sin", "month_cos", "day_type_weekend"]
        if self.prices:
            prices = torch.stack([column_table(names, price) for price in PRICES], 1)
            self.register_buffer("price_columns", prices, persistent=False)
            derived += ["electricity_pricing_fall"] * 3
        if guard is not None:
            slots = guard.action_low.shape[1]
            derived += (
                ["least_action"] * slots + ["hours_left"] * slots + ["undisclosed"] * slots + ["gain_due"] * slots
            )
            place = guard.place[: len(guard.floor)]
            self.register_buffer("charger_place", place.clone(), persistent=False)
        labels = [home + derived for home in labels]
        self.size = width + len(derived)
        # What the critic reads: every feature once.
        read = [
            home * self.size + column
            for home, row in enumerate(labels)
            for column, name in enumerate(row)
            if name and not (home > 0 and name.startswith(COMMUNITY_WIDE))
        ]
        self.register_buffer("critic_columns", torch.tensor(read), persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        """See the class."""
        return self.look(observations)[0]

    def look(self, observations: Tensor) -> tuple[Tensor, Tensor | None]:
        """The features, and the least actions (B, H, S) that the guard admits, which are some of them."""
        least = None
        parts = [((observations - self.mean) * self.scale).clamp(-10, 10)]
        batch = len(observations)
        if self.clock:
            hour, month, day = observations.gather(2, self.clock_columns.expand(batch, -1, -1)).unbind(2)
            turns = [hour * (2 * math.pi / 24), month * (2 * math.pi / 12)]
            circle = [function(turn) for turn in turns for function in (torch.sin, torch.cos)]
            parts.append(torch.stack([*circle, (day >= 6).to(hour.dtype)], 2))
        if self.prices:
            price = observations.gather(2, self.price_columns.expand(batch, -1, -1))
            scale = self.scale.gather(1, self.price_columns[:, :1])
            parts.append((price[..., :1] - price[..., 1:]) * scale)
        if self.guard is not None:
            homes, slots = self.guard.action_low.shape
            connected, gain = self.guard.margins(observations)
            least = self.guard.lower(observations, (connected, gain))
            columns = self.guard.charger_columns.expand(batch, -1, -1)
            left = observations[:, self.guard.charger_home].gather(2, columns)[..., 1]
            here = torch.stack([connected * (left + 1) / 12, connected * (left < 0), connected * gain * 2], 1)
            placed = (here @ self.charger_place).view(batch, 3, homes, slots).transpose(1, 2).flatten(2)
            parts += [least, placed]
        return torch.cat(parts, 2), least


class Actors(nn.Module):
    """One small network per home, all evaluated together: weights (H, in, out), or (1, in, out) when shared.

    ========  =========  =====================================
    inputs    (B, H, F)
    returns   (B, H, S)  actions within their bounds, 0 where a home has no such slot
    ========  =========  =====================================
    """

    middle: Tensor
    reach: Tensor

    def __init__(
        self, inputs: int, hidden: int, shared: bool, action_mask: Tensor, action_low: Tensor, action_high: Tensor
    ):
        super().__init__()
        homes, slots = action_mask.shape
        self.shared = shared
        sizes = [(inputs, hidden), (hidden, hidden), (hidden, slots)]
        copies = 1 if shared else homes
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for into, out in sizes:
            bound = 1.0 / math.sqrt(into)
            # The last layer starts small: actions near the middle, where tanh still has a slope.
            bound = bound * 0.1 if out == slots else bound
            self.weights.append(torch.empty(copies, into, out).uniform_(-bound, bound))
            self.biases.append(torch.zeros(copies, 1, out))
        self.register_buffer("middle", ((action_high + action_low) / 2 * action_mask).float(), persistent=False)
        self.register_buffer("reach", ((action_high - action_low) / 2 * action_mask).float(), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        batch, homes, width = inputs.shape
        values = inputs.reshape(1, batch * homes, width) if self.shared else inputs.transpose(0, 1)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = torch.baddbmm(bias, values, weight)
            values = torch.tanh(values) if layer == last else torch.nn.functional.silu(values)
        values = values.view(batch, homes, -1) if self.shared else values.transpose(0, 1)
        return self.middle + self.reach * values.float()


class Policy(nn.Module):
    """Observations (B, H, O) -> actions (B, H, S): features, coordination, actors, guard.

    With ``none`` a home's action depends on its own observation alone. With ``broadcast`` two district sums are
    added to every home's inputs: the last net consumption and the uncontrolled net (load - PV) of this hour.
    """

    district_columns: Tensor
    district_mean: Tensor
    district_scale: Tensor

    def __init__(
        self,
        features: Features,
        actors: Actors,
        guard: Guard | None,
        coordination: Coordination,
        names: list[list[str]],
        mixed_precision: bool = False,
    ):
        super().__init__()
        self.features, self.actors, self.guard = features, actors, guard
        self.coordination, self.mixed_precision = coordination, mixed_precision
        if coordination == "broadcast":
            columns = torch.stack([column_table(names, name) for name in (NET, LOAD, PV)], 1)
            if (columns < 0).any():
                raise ValueError(f"coordination: broadcast needs every home to observe {NET}, {LOAD} and {PV}")
            self.register_buffer("district_columns", columns, persistent=False)
            spread = features.scale.gather(1, columns).clamp(min=1e-3).reciprocal().square().sum(0).sqrt()
            mean = features.mean.gather(1, columns).sum(0)
            self.register_buffer("district_mean", torch.stack([mean[0], mean[1] - mean[2]]))
            # Homes move together, so a district sum varies more than independent homes would.
            self.register_buffer("district_scale", 0.5 / torch.stack([spread[0], spread[1] + spread[2]]))
        elif coordination != "none":
            raise ValueError(f"unknown coordination {coordination!r}: use none or broadcast")

    def district(self, observations: Tensor) -> Tensor:
        """The broadcast: (B, 2), normalised; from the observations of all homes."""
        seen = observations.gather(2, self.district_columns.expand(len(observations), -1, -1)).sum(1)
        sums = torch.stack([seen[:, 0], seen[:, 1] - seen[:, 2]], 1)
        return (sums - self.district_mean) * self.district_scale

    def forward(self, observations: Tensor, noise: Tensor | None = None) -> Tensor:
        """Actions within bounds; ``noise`` (B, H, S) is added before the guard, which has the last word."""
        return self.decide(observations, noise)[0]

    def decide(self, observations: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Actions (B, H, S) and the homes' own features (B, H, F), which the critic reads."""
        own, least = self.features.look(observations)
        inputs = own
        if self.coordination == "broadcast":
            district = self.district(observations).unsqueeze(1).expand(-1, own.shape[1], -1)
            inputs = torch.cat([own, district], 2)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.mixed_precision):
            actions = self.actors(inputs)
        if noise is not None:
            low, high = self.actors.middle - self.actors.reach, self.actors.middle + self.actors.reach
            actions = torch.minimum(torch.maximum(actions + noise, low), high)
        return (actions if least is None else torch.maximum(actions, least)), own


class Critic(nn.Module):
    """The central twin critic: everything seen and done in the community -> two estimates of the team's return.

    ========  =========  ===================================
    features  (B, H, F)  what the homes saw
    actions   (B, H, S)  what they did
    returns   (2, B)     two independent estimates (Fujimoto et al. 2018)
    ========  =========  ===================================
    """

    columns: Tensor
    slots: Tensor

    def __init__(self, columns: Tensor, action_mask: Tensor, hidden: int):
        super().__init__()
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("slots", action_mask.flatten().nonzero().flatten(), persistent=False)
        sizes = [(len(columns) + len(self.slots), hidden), (hidden, hidden), (hidden, 1)]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for into, out in sizes:
            self.weights.append(torch.empty(2, into, out).uniform_(-1, 1) / math.sqrt(into))
            self.biases.append(torch.zeros(2, 1, out))

    def forward(self, features: Tensor, actions: Tensor) -> Tensor:
        """See the class."""
        seen = features.flatten(1)[:, self.columns]
        values = torch.cat([seen, actions.flatten(1)[:, self.slots]], 1).expand(2, -1, -1)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = torch.baddbmm(bias, values, weight)
            if layer < last:  # layer norm keeps the estimates from running away (Ball et al. 2023)
                values = torch.nn.functional.silu(torch.nn.functional.layer_norm(values, values.shape[-1:]))
        return values.squeeze(2)
