"""Cooperative MADDPG: its config, its two losses, one update. The page to read first.

Actor loss, with K = ``rollout_horizon``, team reward r, actors mu, central critic Q and discount g:

    - E[ sum_{k<K} g^k r(s_{t+k}, mu(o_{t+k}))  +  g^K Q(s_{t+K}, mu(o_{t+K})) ]

K = 0 is MADDPG (Lowe et al. 2017), with one central critic where the team has one reward: transitions come from a
replay memory and nothing else is asked of the environment. K > 0 rolls the current actors through a differentiable
environment, so that the gradient of the reward reaches them exactly, and lets the critic value what comes after.
Training is centralised in both; execution is not. docs/algorithm.md lists every difference from the paper.

Shapes: B copies, H homes, O observations, S action slots, F features of a home.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from thesis_lib.maddpg.coordination import Mode
from thesis_lib.maddpg.muon import Muon
from thesis_lib.maddpg.networks import Critic, Policy
from thesis_lib.maddpg.replay import Batch


class MADDPGConfig(BaseModel):
    """The algorithm's switches and numbers; values live in configs/*.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rollout_horizon: int = Field(ge=0)  # K, hours rolled through the model; 0: MADDPG, from replay alone
    terminal_value: bool  # K > 0: let the critic value what comes after hour K
    discount: float = Field(gt=0, le=1)  # g, per hour
    return_hours: int = Field(ge=1)  # K = 0: rewards that a transition sums before it bootstraps; 1 as published
    coordination: Mode  # what a home hears of the others, see coordination.py
    broadcast_delay: int = Field(ge=0, le=1)  # hours by which the second sum of the broadcast is late; K > 0
    shared_actors: bool  # one set of weights for all homes instead of one each
    actor_units: int = Field(ge=1)  # width of each actor's two hidden layers
    critics: Literal["central", "per_agent"]  # one for the team's reward, or one for each agent's
    critic_units: int = Field(ge=1)  # width of the critic's two hidden layers
    actor_optimiser: Literal["adam", "muon"]
    actor_rate: float = Field(gt=0)  # learning rate, actors
    weight_decay: float = Field(ge=0)  # of the actors: times the learning rate, the share lost with each update
    critic_rate: float = Field(gt=0)  # Adam's learning rate, critic
    target_rate: float = Field(gt=0, le=1)  # share of the new weights that enters the targets at each update
    gradient_clip: float = Field(gt=0)  # largest norm of a gradient, actors and critic apart
    mixed_precision: bool  # actors in bfloat16, all else in float32
    compile: bool  # torch.compile one hour of the rollout; needs a C++ compiler

    @model_validator(mode="after")
    def _transitions_have_no_past(self) -> MADDPGConfig:
        if self.broadcast_delay and self.rollout_horizon == 0:
            raise ValueError("broadcast_delay needs rollout_horizon above 0: the replay memory holds no hour before")
        return self


class World(Protocol):
    """A differentiable environment: what K > 0 asks for. Exogenous data come one item an hour, in a window."""

    def observe(self, state: Any, hour: Any) -> Tensor:
        """What each home sees in this hour, (B, H, O)."""
        ...

    def step(self, state: Any, actions: Tensor, hour: Any) -> tuple[Any, Tensor]:
        """Act (B, H, S) for one hour: the next state and the team's reward (B,) or each home's (B, H)."""
        ...


class Rollout(NamedTuple):
    """K hours under the current actors; features and actions also of the hour after."""

    rewards: Tensor  # (K, B, R), R = 1 or one for each critic
    features: list[Tensor]  # K + 1 of (B, H, F)
    actions: list[Tensor]  # K + 1 of (B, H, S)


class MADDPG:
    """Actors, central twin critic, their targets and optimisers, and what changes them.

    ``target_policy`` is also what is validated and kept: an average of the last policies (Polyak and Juditsky 1992) is
    better than the last one, at no cost.
    """

    def __init__(self, config: MADDPGConfig, policy: Policy, critic: Critic):
        self.config, self.policy, self.critic = config, policy, critic
        self.target_policy = copy.deepcopy(policy).requires_grad_(False)
        self.target_critic = copy.deepcopy(critic).requires_grad_(False)
        optimiser = Muon if config.actor_optimiser == "muon" else torch.optim.AdamW
        self.actor_optimiser = optimiser(policy.parameters(), lr=config.actor_rate, weight_decay=config.weight_decay)
        self.critic_optimiser = torch.optim.Adam(critic.parameters(), lr=config.critic_rate)
        self._hour: Callable = torch.compile(self.hour, dynamic=False) if config.compile else self.hour
        loss = torch.compile(self.critic_loss, dynamic=False) if config.compile else self.critic_loss
        self._critic_loss: Callable = loss

    # --- K = 0: from replay ---

    def replay_target(self, batch: Batch) -> Tensor:
        """What the critic should say, (B, R): reward plus the discounted lower of the twin targets."""
        with torch.no_grad():
            actions, features = self.target_policy.decide(batch.following)
            tail = self.config.discount**self.config.return_hours * self.target_critic(features, actions).amin(0)
            return self.per_critic(batch.reward) + tail

    def per_critic(self, reward: Tensor) -> Tensor:
        """Reward (B,) of the team or (B, H) of the homes -> (B, R), what each critic is about."""
        if reward.dim() == 1:
            return reward.unsqueeze(1).expand(-1, self.critic.agents)
        return reward if self.critic.agents > 1 else reward.mean(1, keepdim=True)

    def critic_loss(self, features: Tensor, actions: Tensor, target: Tensor) -> Tensor:
        """Squared error of both twins, summed: features (B, H, F), actions (B, H, S), target (B, R) -> scalar."""
        return (self.critic(features, actions) - target).square().mean((1, 2)).sum()

    def replay_actor_loss(self, batch: Batch) -> Tensor:
        """The actor loss at K = 0: - Q(s, mu(o)), a scalar."""
        actions, features = self.policy.decide(batch.observations)
        return -self.critic(features, actions, own=True)[0].mean()

    # --- K > 0: through the environment ---

    def hour(self, world: World, state: Any, hour: Any) -> tuple[Any, Tensor, Tensor, Tensor]:
        """See, act, step: the next state, reward (B, R), features (B, H, F), actions (B, H, S)."""
        actions, features = self.policy.decide(world.observe(state, hour))
        state, reward = world.step(state, actions, hour)
        return state, self.per_critic(reward), features, actions

    def rollout(self, world: World, state: Any, window: Sequence[Any]) -> Rollout:
        """Roll the current actors through ``window``: K hours, and one more that is only looked at."""
        rewards, features, actions = [], [], []
        self.policy.reset()
        for hour in window[:-1]:
            state, reward, seen, done = self._hour(world, state, hour)
            rewards.append(reward)
            features.append(seen)
            actions.append(done)
        if self.config.terminal_value:
            # Rolled states hold only the actors' own actions: the critic knows the value along them, not beside them.
            # So the last action's weights count as given, and the tail's gradient reaches the actors through the state.
            seen = world.observe(state, window[-1])
            given = {name: weight.detach() for name, weight in self.policy.named_parameters()}
            features.append(self.policy.features(seen))
            actions.append(torch.func.functional_call(self.policy, given, (seen,)))
        return Rollout(torch.stack(rewards), features, actions)

    def rollout_actor_loss(self, rollout: Rollout) -> Tensor:
        """The actor loss at K > 0 per hour, a scalar: the rolled rewards, then the critic's word on the rest."""
        hours = len(rollout.rewards)
        discounts = self.config.discount ** torch.arange(hours, device=rollout.rewards.device)
        value = (discounts.view(-1, 1, 1) * rollout.rewards).sum(0)
        if self.config.terminal_value:
            tail = self.critic(rollout.features[-1], rollout.actions[-1], own=True)[0]
            value = value + self.config.discount**hours * tail
        return -value.mean() / hours

    def rollout_target(self, rollout: Rollout) -> Tensor:
        """What the critic should say of each hour, (K, B, R): the rewards that followed, then the targets' tail."""
        with torch.no_grad():
            value = self.target_critic(rollout.features[-1], rollout.actions[-1]).mean(0)
            values = []
            for reward in rollout.rewards.flip(0).unbind(0):
                value = reward + self.config.discount * value
                values.append(value)
            return torch.stack(values[::-1])

    # --- one update ---

    def update(
        self, batch: Batch | None = None, world: World | None = None, start: Any = None, *, actors: bool = True
    ) -> dict[str, float]:
        """One update of critic, actors and targets: from a ``batch`` (K = 0), or a ``world`` and its ``start``.

        ``start`` is (state, window) as ``rollout`` takes them; without ``actors`` the batch moves the critic alone.
        Returns the losses.

        Raises:
            ValueError: neither or both were given.
            FloatingPointError: a loss is not finite.
        """
        if (batch is None) == (world is None):
            raise ValueError("update takes a replay batch (rollout_horizon 0) or a world and its start (above 0)")
        losses = {}
        if batch is not None:
            with torch.no_grad():
                features = self.policy.features(batch.observations)
            critic_loss = self._critic_loss(features, batch.actions, self.replay_target(batch))
            losses["critic_loss"] = self._descend(critic_loss, self.critic_optimiser, self.critic)
            if not actors:
                self._follow(self.target_critic, self.critic)
                return losses
            actor_loss = self.replay_actor_loss(batch)
        else:
            assert world is not None
            rollout = self.rollout(world, *start)
            actor_loss = self.rollout_actor_loss(rollout)
        losses["actor_loss"] = self._descend(actor_loss, self.actor_optimiser, self.policy)
        if batch is None and self.config.terminal_value:
            # After the actors, so that their loss saw the critic unchanged.
            seen, done = (torch.cat(values[:-1]).detach() for values in (rollout.features, rollout.actions))
            critic_loss = self._critic_loss(seen, done, self.rollout_target(rollout).flatten(0, 1))
            losses["critic_loss"] = self._descend(critic_loss, self.critic_optimiser, self.critic)
        self._follow(self.target_policy, self.policy)
        self._follow(self.target_critic, self.critic)
        return losses

    def _descend(self, loss: Tensor, optimiser: torch.optim.Optimizer, network: nn.Module) -> float:
        value = float(loss.detach())
        if value != value or value in (float("inf"), float("-inf")):
            raise FloatingPointError(f"the loss is {value}: look for a NaN in the data, or lower the learning rates")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), self.config.gradient_clip)
        optimiser.step()
        return value

    def _follow(self, target: nn.Module, source: nn.Module) -> None:
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), source.parameters(), strict=True):
                slow.lerp_(fast, self.config.target_rate)

    # --- what a checkpoint keeps ---

    PARTS = ("policy", "critic", "target_policy", "target_critic", "actor_optimiser", "critic_optimiser")

    def state_dict(self) -> dict[str, Any]:
        """Networks, targets and optimisers, by name."""
        return {part: getattr(self, part).state_dict() for part in self.PARTS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` returned."""
        for part in self.PARTS:
            getattr(self, part).load_state_dict(state[part])
