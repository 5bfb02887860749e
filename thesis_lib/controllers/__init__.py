"""Who else decides: one protocol, one registry of what needs no training, one of what does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

from thesis_lib.community.model import Community
from thesis_lib.controllers import habits, independent, marlisa, mpc, rules, shipped, tuned
from thesis_lib.maddpg.training import Run


@runtime_checkable
class Controller(Protocol):
    """Anything that turns what the homes see into what they do, in the fast model or in CityLearn."""

    def reset(self, community: Community) -> None:
        """Begin an episode; the community's constants may be read, its future may not (`mpc` says what it takes).

        Raises
        ------
        KeyError
            If a home does not observe what the controller needs.
        """

    def act(self, observations: Tensor) -> Tensor:
        """Observations (B, H, O), in CityLearn's order and units, to actions (B, H, S) within the bounds."""


# Name in every table -> constructor; its keyword arguments are its settings.
CONTROLLERS: dict[str, Callable[..., Controller]] = {
    "charge_on_arrival": rules.ChargeOnArrival,
    "business_as_usual": rules.BusinessAsUsual,
    "rule": rules.SpreadCharging,
    "tuned_rule": tuned.TunedRule,
    "habits": habits.Habits,
    "citylearn_rbc_hours": shipped.RBCHours,
    "citylearn_rbc_basic": shipped.RBCBasic,
    "citylearn_rbc_smart": shipped.RBCSmart,
    "citylearn_rbc_community": shipped.RBCCommunity,
    "random": rules.Random,
    "mpc_forecast": mpc.MpcForecast,
    "mpc_perfect": mpc.MpcPerfect,
}

# Name in every table -> what trains it, see `training.train`; its settings are in the profile's section `learners`.
LEARNERS: dict[str, type[Run]] = {
    "independent_td3": independent.TD3,
    "independent_sac": independent.SAC,
    "marlisa": marlisa.MARLISA,
    "maddpg": Run,  # rollout_horizon 0
}
