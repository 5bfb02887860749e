"""The loop: windows of the train split, updates, validation, checkpoints, resume; and the policy that comes out."""

from __future__ import annotations

import csv
import importlib.metadata
import math
import os
import pickle
import platform
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from thesis_lib.community.kpis import WEIGHTS, individual_reward, team_reward
from thesis_lib.community.model import FLOATS, Community, Flows, Rows, State
from thesis_lib.community.observations import Observer
from thesis_lib.community.splits import blocks
from thesis_lib.maddpg import device as devices
from thesis_lib.maddpg.algorithm import MADDPG, MADDPGConfig
from thesis_lib.maddpg.coordination import coordination
from thesis_lib.maddpg.guard import fit_undisclosed_pace
from thesis_lib.maddpg.household import Household, household_of
from thesis_lib.maddpg.networks import Actors, Critic, Features, Policy
from thesis_lib.maddpg.noise import Noise, NoiseKind
from thesis_lib.maddpg.replay import Batch, Replay

FORMAT = 2  # of checkpoints
LOG_FIELDS = (
    "update",
    "seconds",
    "actor_loss",
    "critic_loss",
    "composite",
    "departures_met",
    "cycles_missed",
    "passes",
)


class TrainConfig(MADDPGConfig):
    """The algorithm's settings and the loop's; values live in configs/*.yaml, none has a default here."""

    updates: int = Field(ge=1)  # budget: gradient updates of the actors
    minutes: float = Field(gt=0)  # stop earlier after this much wall-clock time
    batch: int = Field(ge=1)  # copies rolled together (K > 0), transitions per update (K = 0)
    final_rate: float = Field(gt=0, le=1)  # learning rates fall along a cosine to this share at the last update
    validate_every: int = Field(ge=1)  # updates between validations, which also write the checkpoints
    habits: bool  # actors start from what a careful household does, and say by how much to depart from it
    guard: bool  # raise actions so that no departure or deadline is missed
    guard_leak: float = Field(ge=0, le=1)  # share of the gradient that passes where the guard has raised an action
    guard_spare_steps: int = Field(ge=0)  # plan for departures this many hours before the disclosed one
    guard_tolerance: float = Field(ge=0, lt=1)  # SOC below the required one that the guard accepts
    v2g: bool  # cars may discharge
    trained_homes: int = Field(ge=0)  # train on the first homes only, shared actors then act in all; 0: all
    replicate: int = Field(ge=0)  # homes of the community, the first ones or copies; 0: those of the data set
    observation_noise: float = Field(ge=0)  # at evaluation: of the meters, in standard deviations of what they read
    observation_missing: float = Field(ge=0, le=1)  # at evaluation: share of hours in which readings do not arrive
    augment: bool  # train on days, homes, weather and prices put together anew, all from train rows
    swap_share: float = Field(ge=0, le=1)  # augment: share of homes that get another home's load or PV
    reward: Literal["team", "individual"]  # of the district, or of each home on its own net
    weights: dict[str, float]  # of the reward's terms; validation and results keep the protocol's
    reward_offset: float  # added to each hour's reward: near minus its mean, the critic's values stay near 0
    # K = 0 only
    replay_capacity: int = Field(ge=1)  # transitions remembered
    copies: int = Field(ge=1)  # communities that collect experience side by side
    collect_hours: int = Field(ge=1)  # hours they are rolled before they start elsewhere
    updates_per_hour: int = Field(ge=1)  # updates after each collected hour
    warmup_hours: int = Field(ge=0)  # hours collected before the first update
    critic_warmup: int = Field(ge=0)  # first updates that move the critic alone
    noise: NoiseKind  # gaussian or ou
    noise_scale: float = Field(ge=0)  # standard deviation of the exploration, in units of the action
    noise_theta: float = Field(gt=0, le=1)  # ou: share of the noise that is forgotten each hour

    @model_validator(mode="after")
    def _only_habits_answer(self) -> TrainConfig:
        if self.coordination == "announce" and not self.habits:
            raise ValueError("coordination: announce needs habits: true, whose batteries answer what is announced")
        if self.coordination == "announce" and self.broadcast_delay:
            raise ValueError("coordination: announce is of the hour itself: set broadcast_delay: 0, or use broadcast")
        return self


class CheckpointError(ValueError):
    """A checkpoint that cannot be used here; its text is one line."""


class TrainingWorld(Protocol):
    """What ``train`` needs of an environment; `CommunityWorld` is ours, a test may bring its own."""

    fingerprint: str  # names the environment: a checkpoint of another one is refused
    observation_names: list[list[str]]
    action_mask: Tensor  # (H, S)
    action_low: Tensor  # (H, S)
    action_high: Tensor  # (H, S)
    device: torch.device

    def make_household(self, settings: dict[str, Any]) -> Household | None:
        """The household with the guard's settings of ``guard_settings``; None where there is no such thing."""
        ...

    def guard_settings(self, config: TrainConfig) -> dict[str, Any]:
        """What the guard needs besides the environment, fitted on train rows; plain numbers, kept in checkpoints."""
        ...

    def draw(self, batch: int, hours: int, generator: torch.Generator) -> tuple[Any, Sequence[Any]]:
        """A random start and its window of ``hours`` + 1 items of exogenous data, all from the train split."""
        ...

    def observe(self, state: Any, hour: Any) -> Tensor:
        """(B, H, O)."""
        ...

    def step(self, state: Any, actions: Tensor, hour: Any) -> tuple[Any, Tensor]:
        """Next state, and the team's reward (B,) or each home's (B, H)."""
        ...

    def validate(self, policy: Policy) -> dict[str, float]:
        """``composite`` (lower is better), ``passes`` (1: served well enough to be kept) and whatever else to log."""
        ...


class Controller(Protocol):
    """Whoever decides: see thesis_lib/controllers."""

    def reset(self, community: Community) -> None:
        """Begin an episode of ``community``."""

    def act(self, observations: Tensor) -> Tensor:
        """Observations (B, H, O) to actions (B, H, S)."""


class CommunityWorld:
    """The community as a world to train in: windows of train rows, the team reward, validation weeks.

    Nothing outside the train split is read by ``draw``, ``guard_settings`` and the reward's scale; ``validate`` reads
    the validation weeks and the day before each.
    """

    LEAD_IN = 24  # hours rolled before each validation week, not counted

    def __init__(
        self,
        community: Community,
        reference: Controller,
        augment: bool = True,
        swap_share: float = 0.25,
        reward_offset: float = 0.0,
        reward: Literal["team", "individual"] = "team",
        weights: Mapping[str, float] = WEIGHTS,
        tolerance: float = 0.05,
    ):
        """``reference``: business as usual, whose terms scale the reward; ``tolerance``: SOC a departure may lack."""
        self.community, self.augment, self.swap_share, self.tolerance = community, augment, swap_share, tolerance
        self.reward_offset = reward_offset
        self.reward, self.weights = reward, dict(weights)
        self.fingerprint, self.observation_names = community.fingerprint, community.observation_names
        self.action_mask, self.device = community.action_mask, community.device
        self.action_low, self.action_high = community.action_low, community.action_high
        self.observer = Observer(community)
        self.train_blocks = torch.tensor(blocks("train", community.rows))
        self.margin_guard = self.make_household({"undisclosed_pace": 0.0}).guard
        held = community.read(torch.arange(community.rows, device=self.device))
        self.one_car_each = bool(((held.car == community.cars) | (held.car == community.charger_car)).all()) and len(
            set(community.charger_car.tolist())
        ) == len(community.charger_car)
        self.car_charger = torch.zeros(community.cars, dtype=torch.long)
        self.car_charger[community.charger_car.cpu()] = torch.arange(community.chargers)

        starts = self.train_blocks[:, 0]
        hours = int((self.train_blocks[:, 1] - starts).min())
        self.scale = self._mean_terms(reference, starts, hours, 0)
        weeks = torch.tensor(blocks("validation", community.rows))
        self.validation_starts = weeks[:, 0] - self.LEAD_IN
        self.validation_hours = int((weeks[:, 1] - weeks[:, 0]).min()) + self.LEAD_IN
        self.validation_scale = self._mean_terms(reference, self.validation_starts, self.validation_hours, self.LEAD_IN)
        self.feasible = self._departures_met(_FullPower(community))

    # --- what training asks ---

    def guard_settings(self, config: TrainConfig) -> dict[str, Any]:
        """See `TrainingWorld`."""
        return {
            "undisclosed_pace": fit_undisclosed_pace(self.community, blocks("train", self.community.rows)),
            "spare_steps": config.guard_spare_steps,
            "tolerance": config.guard_tolerance,
        }

    def make_household(self, settings: dict[str, Any]) -> Household:
        """See `TrainingWorld`."""
        return household_of(self.community, **settings).to(self.device)

    def draw(self, batch: int, hours: int, generator: torch.Generator) -> tuple[State, list[Rows]]:
        """See `TrainingWorld`; initial states of charge are random, those of cars such that departures can be met.

        Raises:
            ValueError: no train block is long enough.
        """
        c = self.community
        first, stop = self.train_blocks.unbind(1)
        room = (stop - first - hours).clamp(min=0)  # starts in each block whose hours + 1 rows lie inside
        if int(room.sum()) == 0:
            raise ValueError(f"no train block holds {hours + 1} hours: choose a shorter rollout_horizon")
        place = torch.randint(int(room.sum()), (batch,), generator=generator)
        block = torch.searchsorted(room.cumsum(0), place, right=True)
        start = first[block] + place - (room.cumsum(0) - room)[block]
        ahead = torch.arange(hours + 1).unsqueeze(1)
        channels: dict[str, Any] = {}
        if self.augment:
            low = -((start - first[block]) // 24)
            high = (first[block] + room[block] - 1 - start) // 24

            def shifted(width: int) -> Tensor:  # (hours + 1, B, width) rows, whole days away within the block
                days = torch.rand(batch, width, generator=generator) * (high - low + 1).unsqueeze(1)
                days = low.unsqueeze(1) + days.long().minimum((high - low).unsqueeze(1))
                return (ahead + start).unsqueeze(2) + 24 * days

            def swapped() -> Tensor:  # (1, B, H) the home whose series a home gets
                other = torch.randint(c.homes, (batch, c.homes), generator=generator)
                swap = torch.rand(batch, c.homes, generator=generator) < self.swap_share
                return torch.where(swap, other, torch.arange(c.homes)).unsqueeze(0)

            sun = shifted(1)  # weather and PV belong together
            chargers = shifted(c.chargers) if self.one_car_each else shifted(1).expand(-1, -1, c.chargers)
            cars = chargers[..., self.car_charger] if c.chargers else shifted(c.cars)
            channels = {
                "load": (shifted(c.homes), swapped()),
                "pv": (sun.expand(-1, -1, c.homes), swapped()),
                "weather": sun.expand(-1, -1, c.widths[FLOATS.index("weather")]),
                "market": shifted(1).expand(-1, -1, c.widths[FLOATS.index("market")]),
                **dict.fromkeys(
                    ("connected", "departure", "required_soc", "incoming", "arrival", "arrival_soc", "car"), chargers
                ),
                **dict.fromkeys(("keep", "floor", "forced", "charger", "drift"), cars),
                **dict.fromkeys(("alive", "clock"), shifted(c.appliances)),
            }
        for name, where in channels.items():
            pair = isinstance(where, tuple)
            channels[name] = tuple(part.to(self.device) for part in where) if pair else where.to(self.device)
        rows = c.read((ahead + start).to(self.device), **channels)
        window = [Rows(*hour) for hour in zip(*(field.unbind(0) for field in rows), strict=True)]
        battery = torch.rand(batch, c.homes, generator=generator).to(c.device, c.dtype)
        cars_soc = torch.rand(batch, c.cars, generator=generator).to(c.device, c.dtype)
        state = c.reset(
            batch, start.to(self.device), hours + 1, battery, torch.maximum(cars_soc, c.storage_minimum_soc[c.homes :])
        )
        state = state._replace(net=window[0].load - window[0].pv, next_cycle=window[0].alive)
        connected, gain = self.margin_guard.margins(self.observer(state, window[0]))
        due = (connected * gain.clamp(min=0.0)).to(c.dtype)
        lift = torch.zeros_like(cars_soc).index_add(1, c.charger_car[c.charger_slot >= 0], due)
        cars_soc = (state.soc[:, c.homes :] + lift).clamp(max=1.0)
        soc = torch.cat([state.soc[:, : c.homes], cars_soc], 1)
        return state._replace(soc=soc, soc_before=soc), window

    def observe(self, state: State, hour: Rows) -> Tensor:
        """See `TrainingWorld`."""
        return self.observer(state, hour)

    def step(self, state: State, actions: Tensor, hour: Rows) -> tuple[State, Tensor]:
        """See `TrainingWorld`; business as usual earns minus one on average, plus ``reward_offset``."""
        after, flows = self.community.step(state, actions, hour, surrogate=True)
        if self.reward == "individual":
            day_start, past = state.row % self.community.steps_per_day == 0, (state.net, state.home_day_peak)
            own = individual_reward(flows.net, flows.cost, flows.emissions, *past, day_start, self.scale, self.weights)
            return after, own + self.reward_offset
        return after, self._reward(state, flows, self.scale, self.weights) + self.reward_offset

    def _reward(
        self, state: State, flows: Flows, scale: dict[str, float], weights: Mapping[str, float] = WEIGHTS
    ) -> Tensor:
        day_start = state.row % self.community.steps_per_day == 0
        return team_reward(
            flows.net, flows.cost, flows.emissions, state.net.sum(-1), state.day_peak, day_start, scale, weights
        )

    # --- validation ---

    def _run(self, controller: Any, starts: Tensor, hours: int) -> Iterator[tuple[State, Rows, Flows, State]]:
        state = self.community.reset(len(starts), starts.to(self.device), hours)
        controller.reset(self.community)
        with torch.no_grad():
            for _ in range(hours):
                rows = self.community.read(state.row)
                after, flows = self.community.step(state, controller.act(self.observer(state, rows)), rows)
                yield state, rows, flows, after
                state = after

    def _mean_terms(self, controller: Controller, starts: Tensor, hours: int, skip: int) -> dict[str, float]:
        totals = dict.fromkeys(WEIGHTS, 0.0)
        for hour, (state, _, flows, _) in enumerate(self._run(controller, starts, hours)):
            if hour >= skip:
                for term in WEIGHTS:
                    totals[term] -= float(self._reward(state, flows, {term: 1.0}, {term: 1.0}).mean())
        return {term: total / (hours - skip) for term, total in totals.items()}

    def _departures_met(self, controller: Any, totals: dict[str, float] | None = None) -> Tensor:
        """Roll the validation weeks: (hours, B, C), 1 departed with enough, 0 with too little, -1 no departure."""
        met, held = [], None
        for hour, (state, rows, flows, after) in enumerate(
            self._run(controller, self.validation_starts, self.validation_hours)
        ):
            if held is not None:
                required, soc, connected, left = held
                leaves = connected & ((rows.connected == 0) | ((left <= 1) & (rows.departure > left)))
                met.append(torch.where(leaves, (soc >= required - self.tolerance - 1e-5).float(), -1.0))
            soc = torch.nn.functional.pad(flows.car_soc, (0, 1)).gather(1, rows.car)
            held = rows.required_soc, soc, rows.connected > 0, rows.departure
            if totals is not None and hour >= self.LEAD_IN:
                totals["composite"] -= float(self._reward(state, flows, self.validation_scale).mean())
                totals["cycles_missed"] = float((after.missed_cycle >= 0).sum())
        return torch.stack(met)[self.LEAD_IN :]

    def validate(self, policy: Policy) -> dict[str, float]:
        """Composite over business as usual on the validation weeks, and whether cars and appliances were served."""
        totals = {"composite": 0.0, "cycles_missed": 0.0}
        met = self._departures_met(_Acting(policy), totals)
        due = self.feasible == 1
        served = float((met[due] == 1).float().mean()) if due.any() else 1.0
        return {
            "composite": totals["composite"] / (self.validation_hours - self.LEAD_IN),
            "departures_met": served,
            "cycles_missed": totals["cycles_missed"],
            "passes": float(served >= 0.99 and totals["cycles_missed"] == 0),
        }


class _FullPower:
    """Charges every car at full power and starts every appliance at once: what it misses cannot be met."""

    def __init__(self, community: Community):
        self.actions = community.action_high.clone()
        for home, names in enumerate(community.action_names):
            for slot, name in enumerate(names):
                if name == "electrical_storage":
                    self.actions[home, slot] = 0.0

    def reset(self, community: Community) -> None:
        pass

    def act(self, observations: Tensor) -> Tensor:
        return self.actions.expand(len(observations), -1, -1)


class _Acting:
    """A policy as a controller, for validation."""

    def __init__(self, policy: Policy):
        self.policy = policy

    def reset(self, community: Community) -> None:
        self.policy.reset()

    def act(self, observations: Tensor) -> Tensor:
        return self.policy(observations)


# --- building ---


def build_policy(
    config: TrainConfig, world: Any, household: Household | None, mean: Tensor, deviation: Tensor
) -> Policy:
    """The policy of a world, with fresh weights; ``mean`` and ``deviation`` (H, O) normalise its observations."""
    features = Features(world.observation_names, mean, deviation, household)
    names, low, high = world.observation_names, world.action_low.float().cpu(), world.action_high.float().cpu()
    if not config.v2g and household is not None:
        low = torch.where(household.devices.cpu(), low.clamp_min(0), low)
    late = config.broadcast_delay == 1
    heard = coordination(config.coordination, names, features.size, mean, features.scale, household, late)
    inputs, mask, answers = features.size + heard.extra, world.action_mask.cpu(), config.coordination == "announce"
    actors = Actors(inputs, config.actor_units, config.shared_actors, mask, low, high, config.habits, answers)
    return Policy(
        features,
        heard,
        actors,
        habits=config.habits,
        guard=config.guard,
        guard_leak=config.guard_leak,
        mixed_precision=config.mixed_precision,
    )


def fit_normaliser(world: TrainingWorld, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean and deviation (H, O) of what is observed in random train windows, under small random actions."""
    seen = []
    with torch.no_grad():
        state, window = world.draw(256, 12, generator)
        for hour in window[:-1]:
            observations = world.observe(state, hour)
            seen.append(observations.cpu())
            noise = torch.rand(len(observations), *world.action_mask.shape, generator=generator) - 0.5
            state, _ = world.step(state, noise.to(observations) * world.action_mask.to(observations), hour)
    values = torch.cat(seen).float()
    return values.mean(0), values.std(0)


# --- the loop ---


class Run:
    """Everything that changes during training, so that it can be saved and put back whole.

    Learners compared with ours are subclasses (thesis_lib/controllers/independent.py): `train` takes the class.
    """

    Config: Any = TrainConfig
    shares: tuple[str, ...] = ()  # keys of a profile's `train` that hold for it among the compared learners; (): all

    @classmethod
    def world_of(cls, config: Any, community: Community, reference: Controller) -> TrainingWorld:
        """The community as a world with the reward that the learner asks for."""
        return CommunityWorld(
            community,
            reference,
            config.augment,
            config.swap_share,
            config.reward_offset,
            config.reward,
            config.weights,
        )

    @classmethod
    def policy_of(cls, config: Any, world: Any, household: Household | None, mean: Tensor, deviation: Tensor) -> Any:
        """The policy that the learner trains, with fresh weights."""
        return build_policy(config, world, household, mean, deviation)

    def __init__(self, config: Any, world: TrainingWorld, seed: int):
        torch.manual_seed(seed)
        self.config, self.world, self.seed = config, world, seed
        self.generator = torch.Generator().manual_seed(seed)
        self.guard_settings = world.guard_settings(config)
        household = world.make_household(self.guard_settings)
        mean, deviation = fit_normaliser(world, self.generator)
        policy = self.policy_of(config, world, household, mean, deviation)
        agents = len(mean) if config.critics == "per_agent" else 1
        critic = Critic(policy.features.critic_columns, world.action_mask.cpu(), config.critic_units, agents)
        self.algorithm: Any = MADDPG(config, policy.to(world.device), critic.to(world.device))
        self.replay: Replay | None = None
        if config.rollout_horizon == 0:
            homes, width = mean.shape
            slots = world.action_mask.shape[1]
            individual = config.reward == "individual"
            self.replay = Replay(config.replay_capacity, homes, width, slots, str(world.device), individual)
        self.updates, self.seconds, self.best = 0, 0.0, math.inf
        self.sums: dict[str, float] = {}
        self.count = 0

    def rates(self) -> None:
        """Set the learning rates for the next update: a cosine over the budget."""
        low, done = self.config.final_rate, min(self.updates / self.config.updates, 1.0)
        share = low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done))
        for optimiser, rate in (
            (self.algorithm.actor_optimiser, self.config.actor_rate),
            (self.algorithm.critic_optimiser, self.config.critic_rate),
        ):
            for group in optimiser.param_groups:
                group["lr"] = rate * share

    def note(self, losses: dict[str, float]) -> None:
        """Count an update and remember its losses for the log."""
        self.updates += 1
        self.count += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def iterate(self) -> None:
        """One window: one update through it (K > 0), or its transitions and the updates they allow (K = 0)."""
        config, world = self.config, self.world
        if self.replay is None:
            self.rates()
            start = world.draw(config.batch, config.rollout_horizon, self.generator)
            self.note(self.algorithm.update(world=world, start=start))
            return
        state, window = world.draw(config.copies, config.collect_hours, self.generator)
        noise = Noise(config.noise, config.noise_scale, (config.copies, *world.action_mask.shape), config.noise_theta)
        observations = world.observe(state, window[0])
        unfinished: deque[Batch] = deque()  # of the last hours, with the rewards so far
        for hour, following in zip(window[:-1], window[1:], strict=True):
            with torch.no_grad():
                actions = self.algorithm.policy(observations, noise.sample(self.generator).to(observations))
                state, reward = world.step(state, actions, hour)
                after = world.observe(state, following)
                unfinished = deque(
                    past._replace(reward=past.reward + config.discount ** (len(unfinished) - place) * reward)
                    for place, past in enumerate(unfinished)
                )
                unfinished.append(Batch(observations, actions, reward, after))
                if len(unfinished) == config.return_hours:
                    self.replay.add(unfinished.popleft()._replace(following=after))
                observations = after
            if self.replay.size < config.warmup_hours * config.copies:
                continue
            for _ in range(config.updates_per_hour):
                if self.updates < config.updates:
                    self.rates()
                    batch = self.replay.sample(config.batch, self.generator)
                    self.note(self.algorithm.update(batch=batch, actors=self.updates >= config.critic_warmup))

    # --- checkpoints ---

    def header(self) -> dict[str, Any]:
        """What every checkpoint says about itself."""
        return {
            "format": FORMAT,
            "community": self.world.fingerprint,
            "config": self.config.model_dump(),
            "guard_settings": self.guard_settings,
            "seed": self.seed,
            "updates": self.updates,
            "seconds": self.seconds,
            "best": self.best,
            "versions": {
                "python": platform.python_version(),
                **{n: importlib.metadata.version(n) for n in ("torch", "numpy")},
            },
        }

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs to go on bit for bit."""
        name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
        return self.header() | {
            "algorithm": self.algorithm.state_dict(),
            "replay": None if self.replay is None else self.replay.state_dict(),
            "random": {
                "generator": self.generator.get_state(),
                "torch": torch.get_rng_state(),
                "numpy": [
                    str(name),
                    torch.from_numpy(np.asarray(keys).astype(np.int64)),
                    int(position),
                    int(has_gauss),
                    float(gauss),
                ],
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` returned."""
        self.updates, self.seconds, self.best = state["updates"], state["seconds"], state["best"]
        self.algorithm.load_state_dict(state["algorithm"])
        if self.replay is not None:
            self.replay.load_state_dict(state["replay"])
        self.generator.set_state(state["random"]["generator"])
        torch.set_rng_state(state["random"]["torch"])
        name, keys, position, has_gauss, gauss = state["random"]["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))


def train(
    config: Any,
    community: Community | TrainingWorld,
    folder: Path | str,
    *,
    seed: int,
    device: str = "cpu",
    reference: Controller | None = None,
    resume: bool = True,
    say: Callable[[str], None] = print,
    kind: type[Run] = Run,
) -> Path:
    """Train, and leave ``best.pt``, ``last.pt`` and ``log.csv`` in ``folder``.

    ``best.pt`` is the policy with the best validation score among those that pass the service gate; until one does
    it does not exist. ``last.pt`` holds everything; with ``resume`` a run goes on from it, and one that had
    finished returns at once. Ctrl-C (or SIGTERM) ends the update at hand, writes ``last.pt`` and exits.

    Args:
        config: the algorithm's and the loop's settings, of ``kind``'s ``Config``.
        community: the community (its rows are split as the protocol says), or any `TrainingWorld`.
        folder: where checkpoints go; made if missing.
        seed: of weights, windows and noise.
        device: auto, cpu, cuda, cuda:N or mps.
        reference: business as usual, for the reward's scale and validation; needed with a `Community`.
        say: takes one line per validation.
        kind: what is trained.

    Returns:
        The folder.

    Raises:
        CheckpointError: ``last.pt`` is of another community, format, config or seed.
        DeviceError: no such device.
        ValueError: a community without a reference, or a config that does not fit it.
        SystemExit: stopped by Ctrl-C; its text says how to go on.
    """
    begun = time.monotonic()
    target = devices.resolve(device)
    if isinstance(community, Community):
        if reference is None:
            raise ValueError("train needs the reference controller (business as usual) to scale the reward")
        world = kind.world_of(config, community.to(target.torch, torch.float32), reference)
    else:
        world = community
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    last, best, log = folder / "last.pt", folder / "best.pt", folder / "log.csv"
    run = kind(config, world, seed)
    if resume and last.is_file():
        saved = read_checkpoint(last, world.fingerprint)
        for what, ours in (("config", config.model_dump()), ("seed", seed)):
            if saved[what] != ours:
                raise CheckpointError(f"{last}: written with another {what}; remove the folder to start anew")
        run.load_state_dict(saved)
    memory = "" if target.memory_gb is None else f", {target.memory_gb} GB"
    say(f"seed {seed} on {target.torch} ({target.name}{memory}) from update {run.updates} to {config.updates}")
    _keep_log(log, run.updates)
    before = run.seconds
    clock = lambda: before + time.monotonic() - begun  # noqa: E731
    with _stop_signals() as stopped:
        while run.updates < config.updates and clock() < 60 * config.minutes and not stopped:
            mark = run.updates // config.validate_every
            run.iterate()
            if run.updates // config.validate_every > mark or run.updates >= config.updates:
                _validate(run, clock, best, log, say)
                write_checkpoint(last, run.state_dict())
        run.seconds = clock()
        if run.count and not stopped:  # out of time between two validations
            _validate(run, clock, best, log, say)
        write_checkpoint(last, run.state_dict())
    if stopped:
        raise SystemExit(f"stopped at update {run.updates}; {last} holds everything, run the same again to go on")
    return folder


def _validate(run: Run, clock: Callable[[], float], best: Path, log: Path, say: Callable[[str], None]) -> None:
    score = run.world.validate(run.algorithm.target_policy)
    run.seconds = clock()
    losses = {name: value / run.count for name, value in run.sums.items()}
    run.sums, run.count = {}, 0
    if score["passes"] and score["composite"] < run.best:
        run.best = score["composite"]
        write_checkpoint(best, run.header() | {"policy": run.algorithm.target_policy.state_dict()})
    row = {"update": run.updates, "seconds": round(run.seconds, 2), **losses, **score}
    fresh = not log.is_file()
    with log.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, LOG_FIELDS, extrasaction="ignore", restval="")
        if fresh:
            writer.writeheader()
        writer.writerow(row)
    said = {k: f"{v:.4f}" for k, v in {**losses, **score}.items() if k != "passes"}
    say(
        f"update {run.updates}/{run.config.updates}  {run.seconds:.0f} s  "
        + "  ".join(f"{k} {v}" for k, v in said.items())
        + f"  best {run.best:.4f}"
    )


def _keep_log(log: Path, updates: int) -> None:
    """Drop the log's rows after the update from which training goes on."""
    if not log.is_file():
        return
    with log.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if int(row["update"]) <= updates]
    draft = log.with_name(log.name + ".draft")
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, LOG_FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(draft, log)


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM instead of dying of them; a second Ctrl-C does what it always does."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write atomically: a killed run leaves the old file or the new one."""
    draft = path.with_name(path.name + ".draft")
    torch.save(content, draft)
    os.replace(draft, path)


def read_checkpoint(path: Path | str, fingerprint: str) -> dict[str, Any]:
    """Read a checkpoint of the environment called ``fingerprint``, tensors on the CPU.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: damaged, of another format or of another community; one line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: train first")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is no readable checkpoint ({type(error).__name__}); remove it and train again"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise CheckpointError(f"{path} has checkpoint format {found}, this version reads {FORMAT}; train again")
    if content["community"] != fingerprint:
        raise CheckpointError(f"{path} was trained on community {content['community']}, this one is {fingerprint}")
    return content


class TrainedPolicy:
    """A trained policy as a `Controller`: the actors of all homes and the guard, without gradients."""

    def __init__(self, policy: Policy, fingerprint: str, checkpoint: dict[str, Any]):
        self.policy, self.fingerprint, self.checkpoint = policy.eval(), fingerprint, checkpoint

    def reset(self, community: Community) -> None:
        """Begin an episode; only a late broadcast remembers anything.

        Raises:
            CheckpointError: another community than the one it was trained on.
        """
        if community.fingerprint != self.fingerprint:
            raise CheckpointError(
                f"the policy was trained on community {self.fingerprint}, this one is {community.fingerprint}"
            )
        self.policy.reset()

    def act(self, observations: Tensor) -> Tensor:
        """Actions (B, H, S) for observations (B, H, O), in their type and on their device."""
        with torch.no_grad():
            device = self.policy.features.mean.device
            return self.policy(observations.to(device, torch.float32)).to(observations)


def load_policy(
    path: Path | str,
    community: Community,
    device: Literal["auto"] | str = "cpu",
    trained_on: Community | None = None,
    kind: type[Run] = Run,
) -> TrainedPolicy:
    """Load the policy of ``best.pt`` or ``last.pt`` that `train` of the same ``kind`` wrote.

    ``trained_on``: the community of the training, where ``community`` is another one. Shared actors then act in homes
    that they were not trained on; what normalises a home's observation is the mean over the homes of the training.

    Raises:
        FileNotFoundError, CheckpointError: see `read_checkpoint`.
        DeviceError: no such device.
        ValueError: actors that are not shared, in another community.
    """
    source = trained_on or community
    content = read_checkpoint(path, source.fingerprint)
    target = devices.resolve(device).torch
    config = kind.Config(**content["config"])
    weights = content["policy"] if "policy" in content else content["algorithm"]["target_policy"]
    mean, scale = (weights[f"features.{name}"].cpu() for name in ("mean", "scale"))
    deviation = torch.ones_like(mean)
    if trained_on is not None:
        if not config.shared_actors:
            raise ValueError("actors of their own know their own homes only: train with shared_actors: true")
        deviation = torch.where(scale > 0, 1 / scale.clamp(min=1e-6), 0.0)
        mean, deviation = (
            _by_name(values, source.observation_names, community.observation_names) for values in (mean, deviation)
        )
        weights = {name: value for name, value in weights.items() if name.startswith("actors.")}
    household = household_of(community, **content["guard_settings"])
    policy = kind.policy_of(config, community, household, mean, deviation)
    policy.load_state_dict(weights, strict=trained_on is None)
    about = {key: value for key, value in content.items() if key not in ("policy", "algorithm", "replay", "random")}
    return TrainedPolicy(policy.to(target), community.fingerprint, about)


def _by_name(values: Tensor, names: list[list[str]], wanted: list[list[str]]) -> Tensor:
    """(H', O') for each observation wanted, the mean of ``values`` (H, O) over the homes that have one of that name."""
    known: dict[str, list[float]] = {}
    for home, row in enumerate(names):
        for column, name in enumerate(row):
            known.setdefault(name, []).append(float(values[home, column]))
    result = torch.zeros(len(wanted), max(map(len, wanted)))
    for home, row in enumerate(wanted):
        for column, name in enumerate(row):
            result[home, column] = sum(known[name]) / len(known[name]) if name in known else 0.0
    return result
