"""CityLearn itself, driven by any controller: the run that the thesis quotes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from thesis_lib.community import dataset as datasets
from thesis_lib.community.kpis import Trajectory
from thesis_lib.community.model import Community
from thesis_lib.community.observations import from_lists, to_lists

if TYPE_CHECKING:
    from thesis_lib.controllers import Controller

Lists = list[list[float]]  # one list a home, in CityLearn's order
STEPS_BETWEEN_LINES = 2000


def rollout(
    source: Any,
    controller: Controller,
    *,
    start: int = 0,
    end: int | None = None,
    progress: bool = True,
) -> tuple[Trajectory, Any]:
    """Roll a controller through CityLearn, from the first row to the last, without restart.

    Args:
        source: a `Dataset`, or a loaded CityLearnEnv with central_agent=False (its own window then counts).
        controller: reset once with the community in float64 (of the whole data, when source is a dataset: the
            appliances' time steps count from row 0), then asked for actions hour by hour.
        start: first row, when source is a dataset.
        end: last row, included, when source is a dataset; None for the end of the year.
        progress: whether to say on stderr how far it is.

    Returns:
        The trajectory of the N = rows - 1 hours that have an action, and the finished environment.

    Raises:
        ValueError: if the environment has one central agent, or the controller returns a NaN.

    Source:
        CityLearn 3.0.2 `CityLearnEnv.step`.
    """
    env = datasets.load(source, start=start, end=end) if isinstance(source, datasets.Dataset) else source
    whole = datasets.load(source) if isinstance(source, datasets.Dataset) and start > 0 else env
    if env.central_agent:
        raise ValueError("the environment has one central agent: load it with central_agent=False.")
    _begin(env)
    community = Community.from_citylearn(whole, dtype=torch.float64)
    controller.reset(community)

    def act(observations: Lists) -> Lists:
        with torch.no_grad():
            actions = controller.act(from_lists(community, observations))
        return to_lists(community, actions)

    return drive(env, act, progress=progress), env


def drive(env: Any, act: Callable[[Lists], Lists], *, progress: bool = False) -> Trajectory:
    """Step CityLearn from its first row to its last.

    Args:
        env: CityLearnEnv with central_agent=False.
        act: from the observations of each home to the actions of each home, lists in CityLearn's order.
        progress: whether to say on stderr how far it is.

    Returns:
        The trajectory of every hour that had an action.

    Raises:
        ValueError: if an action is not a number.

    Source:
        CityLearn 3.0.2 `CityLearnEnv.step`.
    """
    _begin(env)
    observations = env.observations
    step, steps = 0, env.time_steps - 1
    first = int(env.episode_tracker.episode_start_time_step)
    while not env.terminated:
        actions = act(observations)
        if not all(np.isfinite(values).all() for values in actions):
            raise ValueError(f"the controller returned a NaN at row {first + step}: look at its inputs or its weights.")
        observations, *_ = env.step(actions)
        step += 1
        if progress and (step % STEPS_BETWEEN_LINES == 0 or step == steps):
            _say(step, steps)
    return collect(env)


def _begin(env: Any) -> None:
    """Stand at the first row. Every reset draws other noise for the cars on the road, so a fresh one is kept."""
    if env.episode_tracker.episode < 0 or env.time_step > 0:
        env.reset()


def _say(step: int, steps: int) -> None:
    tail = "\n" if step == steps or not sys.stderr.isatty() else "\r"
    print(f"CityLearn: hour {step} of {steps}", end=tail, file=sys.stderr, flush=True)


def collect(env: Any) -> Trajectory:
    """Read the hourly flows of a stepped CityLearn environment from its public attributes.

    Args:
        env: CityLearnEnv after N steps.

    Returns:
        The trajectory of those N hours.

    Raises:
        ValueError: if the environment has not been stepped.

    Source:
        CityLearn 3.0.2: `Building`, `Battery`, `Charger`, `ElectricVehicle`, `DeferrableAppliance`.
    """
    hours = int(env.time_step)
    if hours < 1:
        raise ValueError("the environment has not been stepped: roll a controller through it first.")
    homes = env.buildings
    chargers = [charger for home in homes for charger in home.electric_vehicle_chargers or []]
    appliances = [appliance for home in homes for appliance in home.deferrable_appliances or []]

    def table(series: list[Any]) -> np.ndarray:
        return np.array([np.asarray(values)[:hours] for values in series]).reshape(len(series), hours).T

    first = int(env.episode_tracker.episode_start_time_step)
    return Trajectory(
        net=table([home.net_electricity_consumption for home in homes]),
        load=table([home.non_shiftable_load for home in homes]),
        pv=np.abs(table([home.solar_generation for home in homes])),
        price=table([home.pricing.electricity_pricing for home in homes]),
        carbon=table([home.carbon_intensity.carbon_intensity for home in homes]),
        battery=table([home.electrical_storage.electricity_consumption for home in homes]),
        battery_soc=table([home.electrical_storage.soc for home in homes]),
        chargers=table([charger.electricity_consumption for charger in chargers]),
        car_soc=table([car.battery.soc for car in env.electric_vehicles]),
        appliances=table([appliance.electricity_consumption for appliance in appliances]),
        started=table([_started(each, first, hours, env.time_steps) for each in appliances]).astype(np.int64),
        start=first,
    )


def _started(appliance: Any, first: int, hours: int, steps: int) -> np.ndarray:
    """Index of the cycle that starts in each hour, or -1; cycles of one appliance never overlap."""
    commands = np.asarray(appliance.past_action_values)[:hours] > appliance.trigger_threshold
    started = np.full(hours, -1, np.int64)
    for index, cycle in enumerate(appliance.deferrable_appliance_simulation.flexibility_schedule):
        duration = int(cycle["duration_steps"])
        last = min(int(cycle["latest_start_time_step"]), int(cycle["deadline_time_step"]) - duration + 1)
        begin = max(int(cycle["earliest_start_time_step"]) - first, 0)
        stop = min(last - first + 1, hours, steps - duration)  # CityLearn lets no cycle reach the last row
        asked = np.flatnonzero(commands[begin:stop]) if stop > begin else np.array([], np.int64)
        if asked.size:
            started[begin + asked[0]] = index
    return started


def evaluate_v2(env: Any) -> pd.DataFrame:
    """CityLearn's own KPIs of the district, without its rerun of business as usual.

    Args:
        env: CityLearnEnv after its last step.

    Returns:
        Data frame indexed by CityLearn's name of the KPI, with the column value.

    Raises:
        Nothing.

    Source:
        CityLearn 3.0.2 `CityLearnEnv.evaluate_v2(include_business_as_usual=False)`.
    """
    table = env.evaluate_v2(include_business_as_usual=False)
    return table[table.level == "district"].set_index("cost_function")[["value"]]
