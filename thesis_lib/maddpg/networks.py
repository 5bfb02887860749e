"""The networks: what a home makes of its own observation, all actors in one batched operation, the twin critic."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from thesis_lib.maddpg.coordination import Announce, Broadcast, column_table
from thesis_lib.maddpg.household import Household

CLOCK = ("hour", "month", "day_type")
DEVICES = ("electric_vehicle_", "connected_electric_vehicle_", "incoming_electric_vehicle_", "deferrable_appliance_")
# Temperature and humidity say little of what is to come, but tell one train day from another: actors that read them
# fitted those days better and others worse.
UNREAD = ("outdoor_",)
LIVE = ("net_electricity_consumption", "electrical_storage_soc")  # what the home's own actions change
GAIN = 2.0  # slope of the multiples: with weights as small as at first they stay near 1
# Observations that every home shares: the critic reads them once.
COMMUNITY_WIDE = ("month", "day_type", "hour", "diffuse", "direct", "carbon", "electricity_pricing")
PRICES = tuple(f"electricity_pricing{suffix}" for suffix in ("", "_predicted_1", "_predicted_2", "_predicted_3"))


class Features(nn.Module):
    """What a home's actor reads: its own observation, normalised, and what follows from it.

    ============  =========  ==========================================================================
    observations  (B, H, O)  CityLearn's lists, padded with 0
    returns       (B, H, F)  normalised columns without those of devices and of the air; hour and month on a circle and
                             weekend in place of their labels; price now minus its 6, 12 and 24 h
                             forecasts; `Household.SEEN` of the device in each slot
    ============  =========  ==========================================================================

    Columns stand in the same place for every home, so that homes can share an actor. The normaliser (``mean``,
    ``deviation``, both (H, O)) is fitted on train rows and saved with the weights.
    """

    mean: Tensor
    scale: Tensor
    own_columns: Tensor
    own_mask: Tensor
    live_columns: Tensor
    live_places: Tensor
    circle: Tensor
    clock_columns: Tensor
    price_columns: Tensor
    critic_columns: Tensor

    def __init__(self, names: list[list[str]], mean: Tensor, deviation: Tensor, household: Household | None):
        super().__init__()
        homes, width = mean.shape
        present = torch.tensor([[column < len(home) for column in range(width)] for home in names])
        self.register_buffer("mean", mean.clone())
        self.register_buffer("scale", torch.where(present & (deviation > 1e-6), 1.0 / deviation.clamp(min=1e-6), 0.0))
        self.household = household
        self.clock = all("hour" in home and "month" in home and "day_type" in home for home in names)
        self.prices = all(price in home for home in names for price in PRICES)
        left_out = (*UNREAD, *(DEVICES if household else ()), *(CLOCK if self.clock else ()))
        own = list(dict.fromkeys(name for home in names for name in home if not name.startswith(left_out)))
        columns = torch.stack([column_table(names, name) for name in own], 1)
        self.register_buffer("own_columns", columns.clamp_min(0), persistent=False)
        self.register_buffer("own_mask", (columns >= 0).float(), persistent=False)
        live = torch.tensor([[name in LIVE or household is None for name in own]]) & (columns >= 0)
        rows = torch.arange(homes).unsqueeze(1)
        self.register_buffer("live_columns", (rows * width + columns)[live], persistent=False)
        self.register_buffer("live_places", (rows * len(own) + torch.arange(len(own)))[live], persistent=False)
        turn = torch.arange(24) * (2 * math.pi / 24)  # a table: sines are dear, and hours and months are few
        self.register_buffer("circle", torch.stack([turn.sin(), turn.cos()], 1), persistent=False)
        labels = [list(own) for _ in names]
        for home, row in enumerate(columns.tolist()):
            labels[home] = [name if column >= 0 else "" for name, column in zip(own, row, strict=True)]
        if self.clock:
            clock = torch.stack([column_table(names, name) for name in CLOCK], 1)
            self.register_buffer("clock_columns", clock, persistent=False)
            labels = [row + ["hour_sin", "hour_cos", "month_sin", "month_cos", "day_type_weekend"] for row in labels]
        if self.prices:
            prices = torch.stack([column_table(names, price) for price in PRICES], 1)
            self.register_buffer("price_columns", prices, persistent=False)
            labels = [row + ["electricity_pricing_fall"] * 3 for row in labels]
        if household is not None:
            held = household.devices.tolist()
            for home, row in enumerate(labels):
                row += [what if device else "" for device in held[home] for what in household.SEEN]
        self.size = len(labels[0])
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

    def look(self, observations: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The features; where there is a household its habits and the guard's least actions too, both (B, H, S)."""
        batch = len(observations)
        # Gradients pass through what the home's own actions change (net, SOC); for the rest there is nothing to pass.
        still = observations.detach()
        own = ((still - self.mean) * self.scale).gather(2, self.own_columns.expand(batch, -1, -1))
        if torch.is_grad_enabled() and observations.requires_grad:
            live = observations.flatten(1).index_select(1, self.live_columns)
            live = (live - self.mean.flatten()[self.live_columns]) * self.scale.flatten()[self.live_columns]
            own = own.flatten(1).index_copy(1, self.live_places, live).view_as(own)
        parts = [own.clamp(-10, 10) * self.own_mask]
        if self.clock:
            hour, month, day = still.gather(2, self.clock_columns.expand(batch, -1, -1)).unbind(2)
            circle = torch.cat([self.circle[hour.long() % 24], self.circle[2 * month.long() % 24]], 2)
            parts += [circle, (day >= 6).to(hour.dtype).unsqueeze(2)]
        if self.prices:
            price = still.gather(2, self.price_columns.expand(batch, -1, -1))
            scale = self.scale.gather(1, self.price_columns[:, :1])
            parts.append((price[..., :1] - price[..., 1:]) * scale)
        if self.household is None:
            return torch.cat(parts, 2), None, None
        seen, habit, least = self.household.see(observations)
        return torch.cat([*parts, seen], 2), habit, least


class Actors(nn.Module):
    """One small network per home, all evaluated together: weights (H, in, out), or (1, in, out) when shared.

    ========  =========  =====================================
    inputs    (B, H, F)
    returns   (B, H, S)  actions within their bounds, or, with habits, what to add to them: as much
                         as the bounds allow, in either direction; 0 where a home has no such slot
              (B, H, S)  multiples of the household's habit, near 1 at first
              (B, H, 1)  with ``answers``, the battery's share in answering the district, near 0 at
                         first; else (B, H, 0)
    ========  =========  =====================================
    """

    low: Tensor
    high: Tensor
    middle: Tensor
    reach: Tensor

    def __init__(
        self,
        inputs: int,
        hidden: int,
        shared: bool,
        action_mask: Tensor,
        action_low: Tensor,
        action_high: Tensor,
        habits: bool,
        answers: bool = False,
    ):
        super().__init__()
        homes, slots = action_mask.shape
        self.shared, self.slots = shared, slots
        outputs = 2 * slots + answers
        sizes = [(inputs, hidden), (hidden, hidden), (hidden, outputs)]
        copies = 1 if shared else homes
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for into, out in sizes:
            bound = 1.0 / math.sqrt(into)
            # The last layer starts small: actions near the middle, where tanh still has a slope.
            bound = bound * 0.1 if out == outputs else bound
            self.weights.append(torch.empty(copies, into, out).uniform_(-bound, bound))
            self.biases.append(torch.zeros(copies, 1, out))
        self.register_buffer("low", (action_low * action_mask).float(), persistent=False)
        self.register_buffer("high", (action_high * action_mask).float(), persistent=False)
        middle, reach = (self.high + self.low) / 2, (self.high - self.low) / 2
        if habits:
            middle, reach = torch.zeros_like(middle), torch.maximum(self.low.abs(), self.high.abs())
        self.register_buffer("middle", middle, persistent=False)
        self.register_buffer("reach", reach, persistent=False)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        batch, homes, width = inputs.shape
        # The copies run along the last dimension: narrow layers are several times faster so, and so is what follows.
        values = inputs.permute(1, 2, 0)  # (H, in, B)
        if self.shared:
            values = values.transpose(0, 1).reshape(1, width, homes * batch)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = torch.baddbmm(bias.mT, weight.mT, values)
            values = values if layer == last else torch.nn.functional.silu(values)
        values = values.view(-1, homes, batch).permute(2, 1, 0) if self.shared else values.permute(2, 0, 1)
        slots = self.slots
        actions, multiples, answer = values.float().split([slots, slots, values.shape[2] - 2 * slots], 2)
        return self.middle + self.reach * torch.tanh(actions), 1 + GAIN * multiples, GAIN * answer


class Policy(nn.Module):
    """Observations (B, H, O) -> actions (B, H, S): features, coordination, actors, habits, guard.

    An action is what the actor wants, plus a multiple of the habit of that device; the guard raises it where a car or
    an appliance cannot wait; then the battery, which knows what the other devices do, answers likewise, and where homes
    announce what they are about to do, takes its share in the district's step too.
    """

    def __init__(
        self,
        features: Features,
        coordination: nn.Module,
        actors: Actors,
        *,
        habits: bool,
        guard: bool,
        guard_leak: float,
        mixed_precision: bool,
    ):
        """``habits``, ``guard``: whether actors start from the household's, and whether it has the last word.

        Raises:
            ValueError: habits or a guard without a household.
        """
        super().__init__()
        self.features, self.coordination, self.actors = features, coordination, actors
        self.household = features.household
        if self.household is None and (habits or guard):
            raise ValueError("habits and guard need a household that says what they are: set both to false")
        self.habits, self.guard, self.guard_leak = habits, guard, guard_leak
        self.mixed_precision = mixed_precision

    def reset(self) -> None:
        """Begin an episode: forget what was heard. Only a late broadcast remembers anything."""
        if isinstance(self.coordination, Broadcast):
            self.coordination.reset()

    def forward(self, observations: Tensor, noise: Tensor | None = None) -> Tensor:
        """Actions within bounds; ``noise`` (B, H, S) is added before the guard, which has the last word."""
        return self.decide(observations, noise)[0]

    def decide(self, observations: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Actions (B, H, S) and the homes' own features (B, H, F), which the critic reads."""
        own, habit, least = self.features.look(observations)
        inputs = self.coordination(own, observations)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.mixed_precision):
            wanted, multiples, answer = self.actors(inputs)
        wanted = wanted if noise is None else wanted + noise
        actions = self.within(wanted + multiples * habit if self.habits else wanted)
        if self.guard and least is not None:
            actions = _raised(actions, least, self.guard_leak)
        if self.habits and self.household is not None:  # the battery last: it knows what the other devices do
            battery = self.household.battery
            planned = self.household.planned(observations, actions)
            answered = wanted + multiples * self.household.cover(planned).unsqueeze(2)
            if isinstance(self.coordination, Announce):
                answered = answered + answer * self.coordination.swing(observations, planned)
            actions = torch.where(battery > 0, self.within(answered), actions)
        return actions, own

    def within(self, actions: Tensor) -> Tensor:
        """The nearest actions within the bounds."""
        return torch.minimum(torch.maximum(actions, self.actors.low), self.actors.high)


def _raised(actions: Tensor, least: Tensor, leak: float) -> Tensor:
    """The larger of both. Where that is ``least``, a share of the gradient still reaches the actor: one that relies on
    the guard must feel that acting earlier pays, or it never does."""
    raised = torch.maximum(actions, least)
    if leak and torch.is_grad_enabled():
        raised = raised + leak * (actions - actions.detach()) * (actions < least)
    return raised


class Critic(nn.Module):
    """The central twin critic: everything seen and done in the community -> two estimates of each return.

    ========  =========  =====================================================================
    features  (B, H, F)  what the homes saw
    actions   (B, H, S)  what they did
    returns   (2, B, R)  two independent estimates (Fujimoto et al. 2018); R = 1 for the team,
                         R = H with one critic per agent, as in Lowe et al. 2017
    ========  =========  =====================================================================
    """

    columns: Tensor
    slots: Tensor

    def __init__(self, columns: Tensor, action_mask: Tensor, hidden: int, agents: int = 1):
        """``agents``: R, how many returns there are to estimate."""
        super().__init__()
        self.agents = agents
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("slots", action_mask.flatten().nonzero().flatten(), persistent=False)
        sizes = [(len(columns) + len(self.slots), hidden), (hidden, hidden), (hidden, 1)]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for into, out in sizes:
            self.weights.append(torch.empty(2 * agents, into, out).uniform_(-1, 1) / math.sqrt(into))
            self.biases.append(torch.zeros(2 * agents, 1, out))

    def forward(self, features: Tensor, actions: Tensor, own: bool = False) -> Tensor:
        """See the class. With ``own`` the gradient of agent h's estimate reaches only what home h saw and did."""
        if own and self.agents > 1:
            itself = torch.eye(self.agents, device=actions.device).view(self.agents, 1, self.agents, 1)
            features, actions = (x.detach() + itself * (x - x.detach()) for x in (features, actions))
        seen, done = features.flatten(-2)[..., self.columns], actions.flatten(-2)[..., self.slots]
        values = torch.cat([seen, done], -1)  # (B, in), or (R, B, in)
        values = values.expand(2 * self.agents, -1, -1) if values.dim() == 2 else values.repeat(2, 1, 1)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = torch.baddbmm(bias, values, weight)
            if layer < last:  # layer norm keeps the estimates from running away (Ball et al. 2023)
                values = torch.nn.functional.silu(torch.nn.functional.layer_norm(values, values.shape[-1:]))
        return values.view(2, self.agents, -1).transpose(1, 2)
