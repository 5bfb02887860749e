"""CityLearn driven by a controller: what is collected is what happened."""


import numpy as np
import pytest
import torch

from thesis_lib.community import dataset, original
from thesis_lib.community.model import Community
from thesis_lib.controllers import rules

pytestmark = pytest.mark.usefixtures("official")


@pytest.fixture(scope="module")
def run():
    return original.rollout(dataset.find("official"), rules.Random(1), start=24, end=24 * 6, progress=False)


def test_flows_balance(run):
    trajectory, env = run
    assert trajectory.start == 24 and trajectory.hours == 24 * 5
    community = Community.from_citylearn(env)
    total = trajectory.load - trajectory.pv + trajectory.battery
    np.add.at(total, (slice(None), community.charger_home.numpy()), trajectory.chargers)
    np.add.at(total, (slice(None), community.appliance_home.numpy()), trajectory.appliances)
    assert np.allclose(total, trajectory.net, atol=1e-5)
    assert np.allclose(trajectory.district, env.net_electricity_consumption[: trajectory.hours], atol=1e-4)


def test_started_cycles_are_the_ones_that_ran(run):
    trajectory, env = run
    appliance = env.buildings[0].deferrable_appliances[0]
    schedule = appliance.deferrable_appliance_simulation.flexibility_schedule
    consumed = np.zeros(trajectory.hours)
    for hour, cycle in enumerate(trajectory.started[:, 0]):
        if cycle >= 0:
            profile = schedule[cycle]["load_profile"]
            consumed[hour : hour + len(profile)] += profile
    assert (trajectory.started >= 0).sum() >= 3
    assert np.allclose(consumed, trajectory.appliances[:, 0])


def test_same_noise_each_time(run):
    again, _ = original.rollout(dataset.find("official"), rules.Random(1), start=24, end=24 * 6, progress=False)
    assert np.array_equal(again.car_soc, run[0].car_soc) and np.array_equal(again.net, run[0].net)


def test_progress_is_said(capsys):
    env = dataset.load(dataset.find("official"), end=24)
    original.drive(env, lambda _: [[0.0] * space.shape[0] for space in env.action_space], progress=True)
    assert "hour 24 of 24" in capsys.readouterr().err


class Broken:
    def reset(self, community):
        self.community = community

    def act(self, observations):
        return torch.full((1, self.community.homes, self.community.slots), torch.nan)


def test_nan_actions_are_refused():
    env = dataset.load(dataset.find("official"), start=24, end=48)
    with pytest.raises(ValueError, match="NaN at row 24"):
        original.rollout(env, Broken(), progress=False)


def test_central_agents_and_unstepped_environments_are_refused():
    env = dataset.load(dataset.find("official"), end=48, central_agent=True)
    with pytest.raises(ValueError, match="central_agent=False"):
        original.rollout(env, Broken())
    with pytest.raises(ValueError, match="not been stepped"):
        original.collect(env)
