"""CityLearn's rule-based controllers, each beside the agent that it repeats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import find

from thesis_lib.community import dataset, original
from thesis_lib.community.model import Community
from thesis_lib.community.observations import from_lists, to_lists
from thesis_lib.controllers import CONTROLLERS, shipped

AGENTS = {
    shipped.RBCBasic: ("baseline", "RBCBasicPolicy"),
    shipped.RBCSmart: ("baseline", "RBCSmartPolicy"),
    shipped.RBCCommunity: ("baseline", "RBCCommunityPolicy"),
    shipped.RBCHours: ("rbc", "BasicElectricVehicleRBC_ReferenceController"),
}


def agent_of(rule: type, env: object) -> object:
    module, name = AGENTS[rule]
    return getattr(__import__(f"citylearn.agents.{module}", fromlist=[name]), name)(env)


def test_every_one_of_them_is_in_the_registry() -> None:
    assert set(AGENTS) <= set(CONTROLLERS.values())


def beside(start: int, hours: int) -> tuple[dict[type, float], dict[type, np.ndarray]]:
    """Step CityLearn with its agents in turn; largest distance of our actions to theirs, and all of theirs."""
    env = dataset.load(find("official"), start=start, end=start + hours)
    env.reset()
    community = Community.from_citylearn(env, dtype=torch.float64)
    agents = {rule: agent_of(rule, env) for rule in AGENTS}
    ours = {rule: rule() for rule in AGENTS}
    for controller in ours.values():
        controller.reset(community)
    worst, seen, steps = dict.fromkeys(AGENTS, 0.0), {rule: [] for rule in AGENTS}, iter(range(hours))

    def act(observations: list[list[float]]) -> list[list[float]]:
        step, actions = next(steps), {}
        for rule, agent in agents.items():
            actions[rule] = theirs = agent.predict(observations)  # type: ignore[attr-defined]
            mine = to_lists(community, ours[rule].act(from_lists(community, observations)))
            clipped = [
                np.clip(home, space.low, space.high) for home, space in zip(theirs, env.action_space, strict=True)
            ]
            far = max(np.abs(a - b).max() for a, b in zip(clipped, mine, strict=True))
            worst[rule] = max(worst[rule], float(far))
            seen[rule].append(np.concatenate(theirs))
        return actions[list(AGENTS)[step // 24 % len(AGENTS)]]  # a day each, so that each sees what others left

    original.drive(env, act)
    return worst, {rule: np.array(actions) for rule, actions in seen.items()}


def test_they_act_as_citylearns_agents_do() -> None:
    worst, actions = beside(0, 24 * 5)
    assert all(distance < 1e-6 for distance in worst.values()), worst
    for rule, taken in actions.items():
        assert np.ptp(taken, axis=0).max() > 0.5, f"{rule.__name__} never did anything"
    pairs = [(a, b) for a in AGENTS for b in AGENTS if a is not b]
    assert all(np.abs(actions[a] - actions[b]).max() > 0.1 for a, b in pairs), "no two of them are the same"


@pytest.mark.parametrize("name", ["BasicRBC", "OptimizedRBC", "BasicBatteryRBC"])
def test_the_others_cannot_run_this_community(name: str) -> None:
    from citylearn.agents import rbc

    env = dataset.load(find("official"), end=24)
    with pytest.raises(ValueError, match="Unknown action name"):
        getattr(rbc, name)(env)
