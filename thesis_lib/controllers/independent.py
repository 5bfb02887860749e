"""Independent learners: each home its own TD3 or SAC, with no word from or about any other home, in training or after.

A home's actor and twin critic read its own observation and its own actions, its reward is of its own net consumption
(``reward: team`` gives all of them the district's), and its gradients are clipped by their own norm: training the 17
homes together as batched tensors gives what training them apart would. Everything else is what Cooperative MADDPG has:
the features, the habits and the guard (`thesis_lib.maddpg`), the windows of the train split, the validation weeks.

    TD3 (Fujimoto et al. 2018) y = r + g min_i Q'_i(o', mu'(o') + clipped noise);   actor: max Q_1(o, mu(o))
    SAC (Haarnoja et al. 2018) y = r + g (min_i Q'_i(o', a') - alpha log pi(a'|o')); actor: max min_i Q_i - alpha log pi

Why the networks are our own. Stable-Baselines3 was tried, one learner for each home around one batch of communities
(benchmarks/independent.py, results/speed/independent.json): bare, it takes less than twice our time for TD3 and more
than twice for SAC. Habits and guard, which every learner here has, are not in its time: there they would be a policy
class of ours for each home, and 17 households looked at one by one in each update instead of at once. MARLISA's homes
choose in turn, which no library has, and build on this SAC: one code for all leaves differences to the algorithms.
BenchMARL (on TorchRL) has no TD3, and its agents share one size of observation and action unless each is a group of its
own; skrl's multi-agent learners are on-policy; CleanRL is files to copy, one agent each.

Shapes: B copies, H homes, O observations, F features, I = F (plus what is heard), S action slots, W what is remembered.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from thesis_lib.community.model import Community
from thesis_lib.maddpg.algorithm import MADDPG
from thesis_lib.maddpg.coordination import Nothing
from thesis_lib.maddpg.household import Household
from thesis_lib.maddpg.networks import Actors, Features, Policy, _raised
from thesis_lib.maddpg.noise import Noise, NoiseKind
from thesis_lib.maddpg.replay import Batch, Replay
from thesis_lib.maddpg.training import (
    CommunityWorld,
    Controller,
    Run,
    TrainingWorld,
    fit_normaliser,
)

EVERY = slice(None)  # home
LOG_DEVIATION = (-5.0, 1.0)  # SAC: between which the logarithm of a standard deviation stays
# Keys of the profile's `train` that hold for every learner: same guard, same target, same data, same terms.
SHARED = (
    "guard", "guard_leak", "guard_spare_steps", "guard_tolerance", "v2g", "augment", "swap_share", "weights",
)  # fmt: skip


class LearnerConfig(BaseModel):
    """Settings of an independent learner; values live in configs/*.yaml, none has a default here.

    The keys of `SHARED` come from the section ``train``, the rest from the learner's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    guard: bool
    guard_leak: float = Field(ge=0, le=1)
    guard_spare_steps: int = Field(ge=0)
    guard_tolerance: float = Field(ge=0, lt=1)
    v2g: bool
    augment: bool
    swap_share: float = Field(ge=0, le=1)
    weights: dict[str, float]

    algorithm: Literal["td3", "sac"]
    reward: Literal["individual", "team"]  # of each home on its own net, or of the district
    habits: bool  # actors start from what a careful household does, and say by how much to depart from it
    updates: int = Field(ge=1)  # budget: gradient updates, critic_warmup of them of the critics alone
    minutes: float = Field(gt=0)  # stop earlier after this much wall-clock time
    batch: int = Field(ge=1)  # transitions of an update
    validate_every: int = Field(ge=1)  # updates between validations, which also write the checkpoints
    final_rate: float = Field(gt=0, le=1)  # learning rates fall along a cosine to this share at the last update
    discount: float = Field(gt=0, le=1)  # per hour
    return_hours: int = Field(ge=1)  # rewards that a transition sums before it bootstraps
    actor_units: int = Field(ge=1)  # width of each actor's two hidden layers
    critic_units: int = Field(ge=1)  # width of each critic's two hidden layers
    actor_rate: float = Field(gt=0)  # Adam's learning rate, actors
    critic_rate: float = Field(gt=0)  # Adam's learning rate, critics
    critic_updates: int = Field(ge=1)  # updates of the critics for each of the actors
    critic_warmup: int = Field(ge=0)  # first updates that move the critics alone
    target_rate: float = Field(gt=0, le=1)  # share of the new weights that enters the targets at each update
    gradient_clip: float = Field(gt=0)  # largest norm of one home's gradient, actor and critic apart
    replay_capacity: int = Field(ge=1)  # transitions remembered
    copies: int = Field(ge=1)  # communities that collect experience side by side
    collect_hours: int = Field(ge=1)  # hours they are rolled before they start elsewhere
    updates_per_hour: int = Field(ge=1)  # updates after each collected hour
    warmup_hours: int = Field(ge=1)  # hours collected before the first update
    noise: NoiseKind  # TD3's exploration: gaussian or ou
    noise_scale: float = Field(gt=0)  # its standard deviation, in units of the action; SAC's own at the beginning
    noise_theta: float = Field(gt=0, le=1)  # ou: share of the noise that is forgotten each hour
    target_noise: float = Field(ge=0)  # TD3: deviation of the noise on the target's action, clipped at twice it
    temperature: float = Field(gt=0)  # SAC: alpha at the beginning, in standard deviations of the reward
    temperature_rate: float = Field(ge=0)  # SAC: Adam's learning rate of log alpha; 0 keeps it
    target_entropy: float  # SAC: entropy that alpha aims at, for each action slot


class TD3Config(LearnerConfig):
    """Settings of independent TD3."""

    algorithm: Literal["td3"]


class SACConfig(LearnerConfig):
    """Settings of independent SAC."""

    algorithm: Literal["sac"]


# --- the networks ---


class HomeActors(Actors):
    """One small network per home, as `Actors`; with ``deviation`` it also says how widely it draws around its choice.

    ===========  ===================  ==================================================================
    inputs       (B, H, I)            or (B, 1, I) of the one home of ``home``
    returns      (B, H, S)            actions within their bounds, or what to add to the habit
                 (B, H, S)            multiples of the household's habit, near 1 at first
                 (B, H) or None       log-probability of what was drawn, in units of the bounds
    ===========  ===================  ==================================================================
    """

    mask: Tensor

    def __init__(
        self,
        inputs: int,
        hidden: int,
        action_mask: Tensor,
        action_low: Tensor,
        action_high: Tensor,
        habits: bool,
        deviation: float | None,
    ):
        """``deviation``: standard deviation at the beginning; None for actors that never draw."""
        super().__init__(inputs, hidden, False, action_mask, action_low, action_high, habits)
        self.register_buffer("mask", action_mask.float(), persistent=False)
        self.draws = deviation is not None
        if deviation is not None:
            weight, bias, slots = self.weights[-1], self.biases[-1], action_mask.shape[1]
            wide = torch.empty(*weight.shape[:2], slots).uniform_(-0.1, 0.1) / math.sqrt(hidden)
            self.weights[-1] = nn.Parameter(torch.cat([weight.data, wide], 2))
            start = torch.full((*bias.shape[:2], slots), math.log(deviation))
            self.biases[-1] = nn.Parameter(torch.cat([bias.data, start], 2))

    def forward(  # type: ignore[override]
        self, inputs: Tensor, draw: bool = False, home: slice = EVERY
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """See the class."""
        values = inputs.permute(1, 2, 0)  # as in Actors: the copies along the last dimension
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = torch.baddbmm(bias[home].mT, weight[home].mT, values)
            values = values if layer == last else torch.nn.functional.silu(values)
        heads = values.permute(2, 0, 1).chunk(3 if self.draws else 2, 2)
        raw, probability = heads[0], None
        if draw:
            log_deviation = heads[2].clamp(*LOG_DEVIATION)
            normal = torch.randn(raw.shape).to(raw)  # on the CPU: its generator is in the checkpoint
            raw = raw + log_deviation.exp() * normal
            density = -0.5 * normal.square() - log_deviation - 0.5 * math.log(2 * math.pi)
            slope = 2 * (math.log(2) - raw - torch.nn.functional.softplus(-2 * raw))  # log of tanh's
            probability = ((density - slope) * self.mask[home]).sum(2)
        return self.middle[home] + self.reach[home] * torch.tanh(raw), self.multiples(heads[1]), probability

    @staticmethod
    def multiples(head: Tensor) -> Tensor:
        """Near 1 with weights as small as at first."""
        return 1 + 2.0 * head


class HomeCritics(nn.Module):
    """Twin critics of every home: what it saw and did itself -> two estimates of its return.

    =======  =========  =======================================
    inputs   (B, H, I)  what its actor read
    actions  (B, H, S)  what it did, after the guard
    returns  (2, B, H)  two independent estimates
    =======  =========  =======================================

    ``reward_mean`` and ``reward_scale`` (H,) make rewards of mean 0 and deviation 1; fitted on the warm-up.
    """

    reward_mean: Tensor
    reward_scale: Tensor

    def __init__(self, homes: int, inputs: int, slots: int, hidden: int):
        super().__init__()
        self.homes = homes
        sizes = [(inputs + slots, hidden), (hidden, hidden), (hidden, 1)]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for into, out in sizes:
            self.weights.append(torch.empty(2 * homes, into, out).uniform_(-1, 1) / math.sqrt(into))
            self.biases.append(torch.zeros(2 * homes, 1, out))
        self.register_buffer("reward_mean", torch.zeros(homes))
        self.register_buffer("reward_scale", torch.ones(homes))

    def forward(self, inputs: Tensor, actions: Tensor) -> Tensor:
        """See the class."""
        values = torch.cat([inputs, actions], 2).transpose(0, 1).repeat(2, 1, 1)  # (2 H, B, I + S)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = torch.baddbmm(bias, values, weight)
            if layer < last:  # layer norm as in the central critic
                values = torch.nn.functional.silu(torch.nn.functional.layer_norm(values, values.shape[-1:]))
        return values.view(2, self.homes, -1).transpose(1, 2)

    def normal(self, reward: Tensor) -> Tensor:
        """Reward (B, H), or (B,) of the team, as the critics count it, (B, H)."""
        reward = reward if reward.dim() == 2 else reward.unsqueeze(1)
        return (reward - self.reward_mean) * self.reward_scale

    def fit_reward(self, reward: Tensor) -> None:
        """Take mean and deviation from rewards (N, H) or (N,)."""
        reward = reward if reward.dim() == 2 else reward.unsqueeze(1).expand(-1, self.homes)
        self.reward_mean.copy_(reward.mean(0))
        self.reward_scale.copy_(1 / reward.std(0).clamp_min(1e-6))


class Temperature(nn.Module):
    """SAC's alpha of every home, (H,)."""

    def __init__(self, homes: int, start: float):
        super().__init__()
        self.log_alpha = nn.Parameter(torch.full((homes,), math.log(start)))

    def forward(self) -> Tensor:
        """See the class; without gradient."""
        return self.log_alpha.detach().exp()


class Choice(NamedTuple):
    """What was decided, and on what."""

    actions: Tensor  # (B, H, S)
    inputs: Tensor  # (B, H, I)
    log_probability: Tensor | None  # (B, H), where it was drawn


class HomePolicy(Policy):
    """`Policy` in two steps, so that replayed hours are looked at once only: the first is what the memory keeps.

    ===========  =================  ==========================================================================
    ``see``      (B, H, O)          observations, to
                 (B, H, W)          them, the features, and the household's habits and the guard's least
                                    actions where there is one: W = O + F + 2 S
    ``choose``   (B, H, W)          to a `Choice`
    ===========  =================  ==========================================================================
    """

    actors: HomeActors

    def see(self, observations: Tensor) -> Tensor:
        """See the class."""
        return torch.cat([observations, *(x for x in self.features.look(observations) if x is not None)], 2)

    def parts(self, seen: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Observations, features, habits and least actions of ``see``; the last two None without a household."""
        width = self.features.mean.shape[1]
        own = seen[..., width : width + self.features.size]
        if self.household is None:
            return seen[..., :width], own, None, None
        slots = self.actors.low.shape[1]
        habit, least = seen[..., width + self.features.size :].split(slots, 2)[:2]
        return seen[..., :width], own, habit, least

    def read(self, seen: Tensor) -> Tensor:
        """What actors and critics read, (B, H, I)."""
        return self.coordination(self.parts(seen)[1], seen)

    def choose(self, seen: Tensor, noise: Tensor | None = None, draw: bool = False) -> Choice:
        """See the class; ``noise`` (B, H, S) is added before the guard, ``draw`` takes SAC's stochastic action."""
        observations, own, habit, least = self.parts(seen)
        inputs = self.coordination(own, seen)
        wanted, multiples, probability = self.actors(inputs, draw)
        wanted = wanted if noise is None else wanted + noise
        actions = self.devices(wanted, multiples, habit, least)
        if self.habits and self.household is not None:  # the battery last: it knows what the other devices do
            planned = self.household.planned(observations, actions)
            actions = self.battery(actions, wanted, multiples, self.household.cover(planned))
        return Choice(actions, inputs, probability)

    def devices(
        self, wanted: Tensor, multiples: Tensor, habit: Tensor | None, least: Tensor | None, home: slice = EVERY
    ) -> Tensor:
        """Actions (B, H, S) with habits and guard, the battery's still without its habit."""
        actions = wanted + multiples * habit if self.habits and habit is not None else wanted
        actions = torch.clamp(actions, self.actors.low[home], self.actors.high[home])
        return _raised(actions, least, self.guard_leak) if self.guard and least is not None else actions

    def battery(self, actions: Tensor, wanted: Tensor, multiples: Tensor, cover: Tensor, home: slice = EVERY) -> Tensor:
        """Actions (B, H, S) with the battery's habit: ``cover`` (B, H) brings the home's net to 0."""
        assert self.household is not None
        answer = torch.clamp(wanted + multiples * cover.unsqueeze(2), self.actors.low[home], self.actors.high[home])
        return torch.where(self.household.battery[home] > 0, answer, actions)

    def decide(self, observations: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Actions (B, H, S) without drawing, and what they were decided on (B, H, I)."""
        choice = self.choose(self.see(observations), noise)
        return choice.actions, choice.inputs


# --- one update ---


class Independent:
    """Actors, twin critics, their targets and optimisers, of every home.

    ``target_policy``, the average of the last policies, is what is validated and kept, as for every learner here.
    """

    def __init__(self, config: LearnerConfig, policy: HomePolicy, critic: HomeCritics):
        self.config, self.policy, self.critic = config, policy, critic
        self.target_policy = copy.deepcopy(policy).requires_grad_(False)
        self.target_critic = copy.deepcopy(critic).requires_grad_(False)
        self.actor_optimiser = torch.optim.Adam(policy.parameters(), lr=config.actor_rate)
        self.critic_optimiser = torch.optim.Adam(critic.parameters(), lr=config.critic_rate)
        self.temperature = Temperature(critic.homes, config.temperature).to(critic.reward_mean.device)
        self.temperature_optimiser = torch.optim.Adam(self.temperature.parameters(), lr=config.temperature_rate)
        self.slots = policy.actors.mask.sum(1)

    def target(self, batch: Batch) -> Tensor:
        """What the critics should say, (B, H)."""
        config = self.config
        with torch.no_grad():
            if config.algorithm == "sac":
                choice = self.policy.choose(batch.following, draw=True)
                assert choice.log_probability is not None
                tail = self.target_critic(choice.inputs, choice.actions).amin(0)
                tail = tail - self.temperature() * choice.log_probability
            else:
                noise = config.target_noise * torch.randn(batch.actions.shape).clamp(-2, 2).to(batch.actions)
                choice = self.target_policy.choose(batch.following, noise)
                tail = self.target_critic(choice.inputs, choice.actions).amin(0)
            return self.critic.normal(batch.reward) + config.discount**config.return_hours * tail

    def critics_loss(self, batch: Batch, target: Tensor) -> Tensor:
        """Squared error of both twins, summed over homes: target (B, H) -> scalar."""
        estimates = self.critic(self.policy.read(batch.observations), batch.actions)
        return (estimates - target).square().mean(1).sum()

    def actors_loss(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The actors' losses, summed over homes, a scalar; and SAC's log-probabilities (B, H)."""
        choice = self.policy.choose(batch.observations, draw=self.config.algorithm == "sac")
        values = self.critic(choice.inputs, choice.actions)
        if choice.log_probability is None:
            return -values[0].mean(0).sum(), None
        loss = self.temperature() * choice.log_probability - values.amin(0)
        return loss.mean(0).sum(), choice.log_probability.detach()

    def update(self, batches: Sequence[Batch], *, actors: bool = True) -> dict[str, float]:
        """One update of the critics with each of ``batches``, then of the actors with the last, and of the targets.

        Returns the losses, means over homes.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        losses = {}
        for batch in batches:
            loss = self.critics_loss(batch, self.target(batch))
            losses["critic_loss"] = self._descend(loss, self.critic_optimiser, self.critic)
        if actors:
            self.critic.requires_grad_(False)
            loss, probability = self.actors_loss(batches[-1])
            losses["actor_loss"] = self._descend(loss, self.actor_optimiser, self.policy)
            self.critic.requires_grad_(True)
            if probability is not None and self.config.temperature_rate:
                excess = (probability + self.config.target_entropy * self.slots).mean(0)
                self.temperature_optimiser.zero_grad(set_to_none=True)
                (-self.temperature.log_alpha * excess).sum().backward()
                self.temperature_optimiser.step()
            self._follow(self.target_policy, self.policy)
        self._follow(self.target_critic, self.critic)
        return losses

    def _descend(self, loss: Tensor, optimiser: torch.optim.Optimizer, network: nn.Module) -> float:
        value = float(loss.detach()) / self.critic.homes
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value}: look for a NaN in the data, or lower the learning rates")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._clip([weight.grad for weight in network.parameters() if weight.grad is not None])
        optimiser.step()
        return value

    def _clip(self, gradients: list[Tensor]) -> None:
        """Each home's gradient to its own largest norm; a home's slices are every H-th of the first dimension."""
        homes = self.critic.homes
        squares = [gradient.square().sum((1, 2)).view(-1, homes).sum(0) for gradient in gradients]
        norm = torch.stack(squares).sum(0).sqrt()
        share = (self.config.gradient_clip / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(share.repeat(len(gradient) // homes).view(-1, 1, 1))

    def _follow(self, target: nn.Module, source: nn.Module) -> None:
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), source.parameters(), strict=True):
                slow.lerp_(fast, self.config.target_rate)

    # --- what a checkpoint keeps ---

    PARTS = (*MADDPG.PARTS, "temperature", "temperature_optimiser")

    def state_dict(self) -> dict[str, Any]:
        """Networks, targets and optimisers, by name."""
        return {part: getattr(self, part).state_dict() for part in self.PARTS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` returned."""
        for part in self.PARTS:
            getattr(self, part).load_state_dict(state[part])


# --- the loop ---


def build_policy(
    config: LearnerConfig,
    world: Any,
    household: Household | None,
    mean: Tensor,
    deviation: Tensor,
    coordination: nn.Module | None = None,
    inputs: int | None = None,
    kind: Callable[..., HomePolicy] = HomePolicy,
) -> HomePolicy:
    """The policy of a world, with fresh weights; ``mean`` and ``deviation`` (H, O) normalise its observations.

    ``coordination``: what a home hears besides, giving ``inputs`` values; None for nothing.
    """
    features = Features(world.observation_names, mean, deviation, household)
    low, high = world.action_low.float().cpu(), world.action_high.float().cpu()
    if not config.v2g and household is not None:
        low = torch.where(household.devices.cpu(), low.clamp_min(0), low)
    spread = config.noise_scale if config.algorithm == "sac" else None
    mask = world.action_mask.cpu()
    actors = HomeActors(inputs or features.size, config.actor_units, mask, low, high, config.habits, spread)
    return kind(
        features,
        coordination or Nothing(),
        actors,
        habits=config.habits,
        guard=config.guard,
        guard_leak=config.guard_leak,
        mixed_precision=False,
    )


class IndependentRun(Run):
    """Everything that changes during training of independent learners; rates, log and checkpoints are `Run`'s."""

    shares = SHARED
    replay: Replay

    @classmethod
    def world_of(cls, config: Any, community: Community, reference: Controller) -> TrainingWorld:
        """The community as a world with the reward that the learner asks for."""
        return CommunityWorld(
            community, reference, config.augment, config.swap_share, 0.0, config.reward, config.weights
        )

    @classmethod
    def policy_of(
        cls, config: Any, world: Any, household: Household | None, mean: Tensor, deviation: Tensor
    ) -> HomePolicy:
        """The policy that the learner trains, with fresh weights."""
        return build_policy(config, world, household, mean, deviation)

    def __init__(self, config: Any, world: TrainingWorld, seed: int):
        torch.manual_seed(seed)
        self.config, self.world, self.seed = config, world, seed
        self.generator = torch.Generator().manual_seed(seed)
        self.guard_settings = world.guard_settings(config)
        household = world.make_household(self.guard_settings)
        mean, deviation = fit_normaliser(world, self.generator)
        policy = self.policy_of(config, world, household, mean, deviation).to(world.device)
        with torch.no_grad():
            seen = policy.see(torch.zeros(1, *mean.shape, device=world.device))
            inputs = policy.read(seen).shape[2]
        homes, slots = world.action_mask.shape
        critic = HomeCritics(homes, inputs, slots, config.critic_units)
        self.algorithm = Independent(config, policy, critic.to(world.device))
        own = config.reward != "team"
        self.replay = Replay(config.replay_capacity, homes, seen.shape[2], slots, str(world.device), own)
        self.updates, self.seconds, self.best = 0, 0.0, math.inf
        self.sums: dict[str, float] = {}
        self.count = 0

    def explore(self, seen: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (B, H, S) to try, and what they were chosen on (B, H, W)."""
        if self.config.algorithm == "sac":
            return self.algorithm.policy.choose(seen, draw=True).actions, seen
        return self.algorithm.policy.choose(seen, noise).actions, seen

    def collected(self) -> None:
        """Called after each hour of experience."""

    def warmed_up(self) -> None:
        """Called once, before the first update: fit what is fitted on the experience so far."""
        self.algorithm.critic.fit_reward(self.replay.memory.reward[: self.replay.size])

    def iterate(self) -> None:
        """One window: its transitions and the updates they allow."""
        config, world = self.config, self.world
        state, window = world.draw(config.copies, config.collect_hours, self.generator)
        noise = Noise(config.noise, config.noise_scale, (config.copies, *world.action_mask.shape), config.noise_theta)
        unfinished: deque[Batch] = deque()  # of the last hours, with the rewards so far
        for place, hour in enumerate(window):
            with torch.no_grad():
                seen = self.algorithm.policy.see(world.observe(state, hour))
                actions, seen = self.explore(seen, noise.sample(self.generator).to(seen))
                if len(unfinished) == config.return_hours:
                    self.replay.add(unfinished.popleft()._replace(following=seen))
                if place == len(window) - 1:
                    break
                state, reward = world.step(state, actions, hour)
                unfinished.append(Batch(seen, actions, torch.zeros_like(reward), seen))
                unfinished = deque(
                    past._replace(reward=past.reward + config.discount ** (len(unfinished) - 1 - ago) * reward)
                    for ago, past in enumerate(unfinished)
                )
                self.collected()
            if self.replay.size < min(config.warmup_hours * config.copies, config.replay_capacity):
                continue
            if self.updates == 0:
                self.warmed_up()
            for _ in range(config.updates_per_hour):
                if self.updates < config.updates:
                    self.rates()
                    batches = [self.replay.sample(config.batch, self.generator) for _ in range(config.critic_updates)]
                    self.note(self.algorithm.update(batches, actors=self.updates >= config.critic_warmup))


class TD3(IndependentRun):
    """Independent TD3."""

    Config = TD3Config


class SAC(IndependentRun):
    """Independent SAC."""

    Config = SACConfig
