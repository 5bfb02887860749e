"""MARLISA: homes learn by themselves, but tell each other, before they act, what they are about to draw from the grid.

After Vazquez-Canteli, Henze and Nagy, "MARLISA: Multi-Agent Reinforcement Learning with Iterative Sequential Action
Selection for Load Shaping of Grid-Interactive Connected Buildings", BuildSys '20, doi 10.1145/3408308.3427604:

- each home has its own soft actor-critic (`independent`, ``algorithm: sac``);
- each hour the homes choose one after the other, in an order drawn anew, and that several times (``iterations``). A
  home chooses on its own observation and two numbers that it is told, predicts by linear regression the net consumption
  that its choice will bring, and says it. The numbers: the predicted total of the others, over the district's mean; and
  the share of the district's size that had its turn before it, so that large homes settle first what small ones fill;
- what the networks read is compressed by principal component analysis, fitted once on the warm-up;
- the reward has a part for all: - sign(e) 0.01 e^2 max(0, E), with e the net consumption of the home and E that of the
  district (``reward: marlisa``; CityLearn's ``MARL``).

What differs from ``citylearn.agents.marlisa.MARLISA`` (3.0.2): that class looks a home's network up by the number of
the iteration, so unlike homes raise and like ones all act as the first; once it has explored it keeps one order for
ever; and it stores an hour's observation with the numbers told the hour before, not with those its action was chosen
on. Here it is as in the paper. Ours: the features, habits and guard that every learner here has, the temperature of SAC
tuned (Haarnoja et al. 2018), many copies of the community at once, and sizes from train windows instead of the year.

Shapes: B copies, H homes, F features, S action slots, P components.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from thesis_lib.community.kpis import WEIGHTS
from thesis_lib.community.model import Community, Rows, State
from thesis_lib.controllers import independent
from thesis_lib.controllers.independent import EVERY, HomePolicy, LearnerConfig
from thesis_lib.maddpg.coordination import LOAD, NET, PV, column_table
from thesis_lib.maddpg.household import Household
from thesis_lib.maddpg.training import CommunityWorld, Controller, TrainingWorld

TOLD = 2  # numbers that a home is told
EXPONENT, FACTOR = 2, 0.01  # of the reward


class MARLISAConfig(LearnerConfig):
    """Settings of MARLISA; values live in configs/*.yaml."""

    algorithm: Literal["sac"]
    reward: Literal["marlisa", "individual", "team"]  # type: ignore[assignment]
    return_hours: Literal[1]  # the regression learns from the same transitions
    iterations: int = Field(ge=2)  # rounds in which the homes choose; in the first, the first home is told nothing
    pca_share: float = Field(gt=0, le=1)  # components kept, as a share of what there is to read
    regression_every: int = Field(ge=1)  # collected hours between fits of the regression


# --- what is shared ---


def sizes(load: Tensor, pv: Tensor) -> tuple[Tensor, Tensor]:
    """Share of each home in the district's size, (H,), and the size, a scalar: mean load and PV (H,), kWh an hour.

    A home's size is its mean load less a sixth of its PV, but at least 0.3 of its load.
    """
    own = torch.maximum(0.3 * load, load - pv / 6.0)
    return own / own.sum(), own.sum()


def iterate(
    order: Sequence[int],
    iterations: int,
    shares: Tensor,
    district: Tensor,
    copies: int,
    choose: Callable[[int, Tensor], Tensor],
) -> Tensor:
    """The homes choose in ``order``, ``iterations`` times; what each was told the last time, (B, H, 2).

    ``choose``: home and what it is told (B, 2) to its predicted net consumption (B,).
    ``shares`` (H,), ``district``: as of `sizes`; ``copies``: B. In the first round nobody knows what was before.
    """
    demand = shares.new_zeros(copies, len(shares))
    told = shares.new_zeros(copies, len(shares), TOLD)
    for _ in range(iterations):
        before = 0.0
        for home in order:
            told[:, home, 0] = (demand.sum(1) - demand[:, home]) / district
            demand[:, home] = choose(home, told[:, home].clone())
            told[:, home, 1] = before
            before += float(shares[home])
    return told


class Compression(nn.Module):
    """A home's features and what it is told, standardised and projected on their principal components.

    ========  ============  ==================================
    own       (B, H, F)
    seen      (B, H, W)     whose last columns are what is told
    returns   (B, H, P)
    ========  ============  ==================================
    """

    middle: Tensor
    scale: Tensor
    components: Tensor

    def __init__(self, homes: int, features: int, share: float):
        super().__init__()
        width = features + TOLD
        self.extra = int(share * width) - features  # what Policy would add; may be negative
        self.register_buffer("middle", torch.zeros(homes, width))
        self.register_buffer("scale", torch.ones(homes, width))
        self.register_buffer("components", torch.eye(width)[:, : features + self.extra].repeat(homes, 1, 1))

    def forward(self, own: Tensor, seen: Tensor) -> Tensor:
        """See the class."""
        return self.compress(torch.cat([own, seen[..., -TOLD:]], 2))

    def compress(self, values: Tensor, home: slice = EVERY) -> Tensor:
        """(B, H, F + 2) of the homes to (B, H, P)."""
        return torch.bmm(self.standard(values, home).transpose(0, 1), self.components[home]).transpose(0, 1)

    def standard(self, values: Tensor, home: slice = EVERY) -> Tensor:
        """Standardised; what never varied says nothing."""
        return ((values - self.middle[home]) * self.scale[home]).clamp(-10, 10)

    def fit(self, values: Tensor) -> None:
        """Fit on (N, H, F + 2)."""
        self.middle.copy_(values.mean(0))
        deviation = values.std(0, correction=0)
        self.scale.copy_(torch.where(deviation > 1e-6, 1 / deviation.clamp_min(1e-6), 0.0))
        standard = self.standard(values).transpose(0, 1).double()
        _, vectors = torch.linalg.eigh((standard.mT @ standard).cpu())  # ascending; elsewhere with other signs
        self.components.copy_(vectors.flip(2)[:, :, : self.components.shape[2]])


class MARLISAPolicy(HomePolicy):
    """`HomePolicy` whose homes choose one after the other; each sees its features and what it is told.

    ``see`` leaves room for what is told, ``select`` fills it, ``choose`` decides again on what was told.
    """

    by_feature: Tensor
    by_action: Tensor
    constant: Tensor
    shares: Tensor
    district: Tensor
    coordination: Compression

    def __init__(self, *parts: Any, iterations: int, load: Tensor, pv: Tensor, **switches: Any):
        """``load``, ``pv`` (H,): the homes' means, kWh an hour."""
        super().__init__(*parts, **switches)
        self.iterations, self.hour = iterations, 0
        homes, slots = self.actors.low.shape
        shares, district = sizes(load, pv)
        self.register_buffer("shares", shares)
        self.register_buffer("district", district)
        self.register_buffer("by_feature", torch.zeros(homes, self.features.size))
        self.register_buffer("by_action", torch.zeros(homes, slots))
        self.register_buffer("constant", torch.zeros(homes))

    def reset(self) -> None:
        """Begin an episode with the same orders."""
        super().reset()
        self.hour = 0

    def see(self, observations: Tensor) -> Tensor:
        """As `HomePolicy.see`, with room for what is told: (B, H, W + 2)."""
        return torch.nn.functional.pad(super().see(observations), (0, TOLD))

    def select(self, seen: Tensor, order: Sequence[int], draw: bool = False) -> tuple[Tensor, Tensor]:
        """The homes choose in ``order``: actions (B, H, S), and ``seen`` with what each was told."""
        observations, own, habit, least = self.parts(seen)
        batch, (homes, slots) = len(seen), self.actors.low.shape
        actions = own.new_zeros(batch, homes, slots)
        residual = self.household if self.habits else None
        idle = None if residual is None else residual.cover(residual.planned(observations, actions))
        answers = [] if residual is None else residual.devices.any(1).tolist()  # homes with more than a battery
        expected = (own * self.by_feature).sum(2) + self.constant

        def choose(home: int, told: Tensor) -> Tensor:
            one = slice(home, home + 1)
            values = torch.cat([own[:, one], told.unsqueeze(1)], 2)
            wanted, multiples, _ = self.actors(self.coordination.compress(values, one), draw, one)
            habits, leasts = (None if part is None else part[:, one] for part in (habit, least))
            done = self.devices(wanted, multiples, habits, leasts, one)
            if residual is not None and idle is not None:
                actions[:, one] = done  # what the home's other devices do is what its battery answers
                cover = residual.cover(residual.planned(observations, actions)) if answers[home] else idle
                done = self.battery(done, wanted, multiples, cover[:, one], one)
            actions[:, one] = done
            return expected[:, home] + done[:, 0] @ self.by_action[home]

        told = iterate(order, self.iterations, self.shares, self.district, batch, choose)
        return actions, torch.cat([seen[..., :-TOLD], told], 2)

    def decide(self, observations: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Actions (B, H, S) without drawing, and what they were decided on (B, H, P).

        Raises:
            ValueError: with a noise: the homes explore by drawing.
        """
        if noise is not None:
            raise ValueError("MARLISA's homes explore by drawing their actions: there is no noise to add")
        generator = torch.Generator().manual_seed(self.hour)
        self.hour += 1
        order = torch.randperm(len(self.shares), generator=generator).tolist()
        actions, seen = self.select(self.see(observations), order)
        return actions, self.read(seen)

    def fit_regression(self, seen: Tensor, actions: Tensor, net: Tensor) -> None:
        """Learn what net consumption follows: seen (N, H, W + 2), actions (N, H, S), net (N, H) in kWh."""
        own = self.parts(seen)[1]
        x = torch.cat([own, actions], 2).transpose(0, 1).double().cpu()
        y = net.T.unsqueeze(2).double().cpu()
        middle, height = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
        # Features that follow from others, such as price differences, do so but for float32: cut what is left of them.
        weights = torch.linalg.lstsq(x - middle, y - height, rcond=1e-4, driver="gelsd")[0]
        self.by_feature.copy_(weights[:, : own.shape[2], 0])
        self.by_action.copy_(weights[:, own.shape[2] :, 0])
        self.constant.copy_((height - middle @ weights).flatten())


# --- the reward ---


def reward(net: Tensor) -> Tensor:
    """Each home's reward (B, H) for the homes' net consumption (B, H), kWh; see the module."""
    return -torch.sign(net) * FACTOR * net.abs() ** EXPONENT * net.sum(1, keepdim=True).clamp_min(0)


class MARLISAWorld(CommunityWorld):
    """The community with the paper's reward."""

    def step(self, state: State, actions: Tensor, hour: Rows) -> tuple[State, Tensor]:
        """See `thesis_lib.maddpg.training.TrainingWorld`."""
        after, flows = self.community.step(state, actions, hour, surrogate=True)
        return after, reward(flows.net)


# --- the loop ---


class MARLISA(independent.IndependentRun):
    """Everything that changes during the training of MARLISA."""

    Config = MARLISAConfig

    @classmethod
    def world_of(cls, config: Any, community: Community, reference: Controller) -> TrainingWorld:
        """The community as a world with the reward that the learner asks for."""
        if config.reward != "marlisa":
            return super().world_of(config, community, reference)
        return MARLISAWorld(community, reference, config.augment, config.swap_share, 0.0, "individual", WEIGHTS)

    @classmethod
    def policy_of(
        cls, config: Any, world: Any, household: Household | None, mean: Tensor, deviation: Tensor
    ) -> HomePolicy:
        """The policy that the learner trains, with fresh weights."""
        size = independent.Features(world.observation_names, mean, deviation, household).size
        compression = Compression(len(mean), size, config.pca_share)

        def observed(name: str, otherwise: float) -> Tensor:  # (H,) its mean in train windows
            columns = column_table(world.observation_names, name)
            return torch.where(columns >= 0, mean.gather(1, columns.clamp_min(0).unsqueeze(1)).squeeze(1), otherwise)

        load, pv = observed(LOAD, 1.0), observed(PV, 0.0)
        return independent.build_policy(
            config, world, household, mean, deviation, compression, size + compression.extra,
            lambda *parts, **switches: MARLISAPolicy(
                *parts, iterations=config.iterations, load=load, pv=pv, **switches
            ),
        )  # fmt: skip

    def __init__(self, config: Any, world: TrainingWorld, seed: int):
        super().__init__(config, world, seed)
        self.hours = 0  # collected
        self.net = column_table(world.observation_names, NET)
        if (self.net < 0).any():
            raise ValueError(f"MARLISA's homes predict {NET}: every home must observe it")

    def explore(self, seen: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (B, H, S) to try, and what they were chosen on."""
        order = torch.randperm(seen.shape[1], generator=self.generator).tolist()
        return self.algorithm.policy.select(seen, order, draw=True)

    def collected(self) -> None:
        """Fit the regression halfway through the warm-up, and again every so many hours."""
        self.hours += 1
        halfway = self.hours == (self.config.warmup_hours + 1) // 2
        if self.replay.size and (halfway or self.hours % self.config.regression_every == 0):
            seen, actions, _, following = (part[: self.replay.size] for part in self.replay.memory)
            homes = torch.arange(len(self.net), device=seen.device)
            self.algorithm.policy.fit_regression(seen, actions, following[:, homes, self.net])
            self._tell_target()

    def warmed_up(self) -> None:
        """Fit the rewards' scale, and the components on what was seen since there is something to tell."""
        super().warmed_up()
        seen = self.replay.memory.observations[self.replay.size // 2 : self.replay.size]
        policy = self.algorithm.policy
        policy.coordination.fit(torch.cat([policy.parts(seen)[1], seen[..., -TOLD:]], 2))
        self._tell_target()

    def _tell_target(self) -> None:
        with torch.no_grad():
            ours, theirs = self.algorithm.policy.buffers(), self.algorithm.target_policy.buffers()
            for mine, its in zip(ours, theirs, strict=True):
                its.copy_(mine)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs to go on bit for bit."""
        return super().state_dict() | {"hours": self.hours}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` returned."""
        super().load_state_dict(state)
        self.hours = state["hours"]
