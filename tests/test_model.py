"""The community model stepped beside CityLearn itself: same actions, same numbers, at every step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from citylearn.agents.baseline import BusinessAsUsualAgent
from conftest import find, model

from thesis_lib.community import dataset
from thesis_lib.community.model import Community, State
from thesis_lib.community.observations import Observer, from_lists, to_lists
from thesis_lib.community.reading import UnsupportedSchema

Actions = Callable[[int], np.ndarray]


def policy(kind: str, community: Community, seed: int) -> Actions:
    """Actions (H, S) by step: what the batteries, chargers and appliances are asked to do."""
    draw = np.random.default_rng(seed)
    shape = (community.homes, community.slots)
    low, high = community.action_low.numpy(), community.action_high.numpy()
    table = community.charger_table[:-1].numpy()
    edge = np.zeros(shape)  # each charger's least charging power, as an action
    edge[community.charger_home.numpy(), community.charger_slot.numpy()] = table[:, 2] / table[:, 0]

    def act(step: int) -> np.ndarray:
        actions = {
            "random": lambda: draw.uniform(-1, 1, shape),
            "maximum": lambda: np.ones(shape),
            "minimum": lambda: -np.ones(shape),
            "zero": lambda: np.zeros(shape),
            "deadband": lambda: (
                edge * (1 + draw.choice([-1e-9, 0, 1e-9], shape)) * draw.choice([1, 1, -1], shape)
                + draw.uniform(-0.1, 0.1, shape) * (edge == 0)
            ),
        }[kind]()
        return np.where(community.action_mask.numpy(), actions.clip(low, high), 0.0)

    return act


def compare(env: Any, community: Community, state: State, steps: int, act: Actions | None) -> dict[str, float]:
    """Step both, asserting the bars at every step; ``act=None`` lets CityLearn's business as usual decide.

    Returns the totals of both: cost and emissions, each as CityLearn booked them and as the model did.
    """
    observations, _ = env.reset()
    agent = BusinessAsUsualAgent(env) if act is None else None
    observe = Observer(community)
    totals = dict.fromkeys(("cost", "cost_model", "emissions", "emissions_model"), 0.0)
    storages = [b.electrical_storage for b in env.buildings] + [v.battery for v in env.electric_vehicles]
    for step in range(steps):
        row = env.time_step
        seen = from_lists(community, observations)
        difference = (observe(state) - seen).abs()
        assert bool((difference <= 1e-5 + 1e-6 * seen.abs()).all()), f"observations differ at row {row}"
        if agent is None:
            assert act is not None
            actions = torch.tensor(act(step))[None]
        else:
            lists = agent.predict([])
            actions = torch.zeros(1, community.homes, community.slots, dtype=torch.float64)
            for h, values in enumerate(lists):
                actions[0, h, : len(values)] = torch.tensor(values, dtype=torch.float64)
        state, flows = community.step(state, actions)
        observations, *_ = env.step(to_lists(community, actions))

        soc = np.array([s.soc[row] for s in storages], dtype=float)
        np.testing.assert_allclose(state.soc_before[0], soc, rtol=0, atol=1e-9, err_msg=f"SOC at row {row}")
        net = np.array([b.net_electricity_consumption[row] for b in env.buildings])
        bar = np.maximum(1e-5, 4 * np.spacing(np.abs(net).astype("float32")))
        assert np.all(np.abs(flows.net[0].numpy() - net) <= bar), f"net consumption of a home differs at row {row}"
        district = np.float32(env.net_electricity_consumption[row])
        bar = max(1e-5, 4 * np.spacing(np.abs(district)))
        assert abs(flows.net.sum().item() - district) <= bar, f"net consumption of the district differs at row {row}"
        totals["cost"] += float(sum(b.net_electricity_consumption_cost[row] for b in env.buildings))
        totals["emissions"] += float(sum(b.net_electricity_consumption_emission[row] for b in env.buildings))
        totals["cost_model"] += flows.cost.sum().item()
        totals["emissions_model"] += flows.emissions.sum().item()
    capacity = np.array([s.degraded_capacity for s in storages])
    np.testing.assert_allclose(state.capacity[0], capacity, rtol=1e-9, err_msg="degraded capacity")
    for kpi in ("cost", "emissions"):
        assert totals[f"{kpi}_model"] == pytest.approx(totals[kpi], rel=1e-6)
    return totals


@pytest.mark.parametrize(
    ("kind", "start", "seed"),
    [
        ("random", 0, 0),
        ("random", 3001, 1),
        ("random", 7777, 2),
        ("maximum", 0, 0),
        ("maximum", 1234, 0),
        ("minimum", 0, 0),
        ("zero", 4321, 0),
        ("deadband", 0, 3),
        ("deadband", 5000, 4),
        ("business_as_usual", 0, 0),
        ("business_as_usual", 6543, 0),
    ],
)
def test_the_model_is_citylearn(edition: str, kind: str, start: int, seed: int) -> None:
    steps = 96
    community = model(edition)
    env = dataset.load(find(edition), start=start, end=start + steps)
    act = None if kind == "business_as_usual" else policy(kind, community, seed)
    compare(env, community, community.reset(1, start, steps), steps, act)


@pytest.mark.slow
def test_a_full_year_of_random_actions_is_citylearns() -> None:
    community = model("official")
    env = dataset.load(find("official"))
    act = policy("random", community, 5)
    totals = compare(env, community, community.reset(), community.rows - 1, act)

    single, act = model("official", torch.float32), policy("random", community, 5)
    state, cost, emissions = single.reset(), 0.0, 0.0
    with torch.inference_mode():
        for step in range(single.rows - 1):
            state, flows = single.step(state, torch.tensor(act(step), dtype=torch.float32)[None])
            cost, emissions = cost + flows.cost.sum().item(), emissions + flows.emissions.sum().item()
    assert cost == pytest.approx(totals["cost"], rel=1e-5)
    assert emissions == pytest.approx(totals["emissions"], rel=1e-5)


def test_a_community_of_a_part_of_the_year_is_citylearns_too() -> None:
    source = find("offline")
    community = Community.from_citylearn(dataset.load(source, start=1416, end=1464), dtype=torch.float64)
    env = dataset.load(source, start=1416, end=1464)
    compare(env, community, community.reset(), 48, policy("random", community, 9))


def write_schema(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the offline community with ``change`` made to its schema."""
    source = find("offline").schema
    shutil.copytree(source.parent, folder)
    schema = json.loads(source.read_text(encoding="utf-8"))
    change(schema)
    (folder / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    return folder / "schema.json"


def load(schema: Path, start: int = 0, end: int = 120, **options: Any) -> Any:
    from citylearn.citylearn import CityLearnEnv

    return CityLearnEnv(
        str(schema), simulation_start_time_step=start, simulation_end_time_step=end, offline=True, **options
    )


def test_another_community_of_another_shape_is_citylearns_too(tmp_path: Path) -> None:
    """Three homes, three chargers in one, a car that uses two of them, two appliances, losses, no battery."""

    def change(schema: dict[str, Any]) -> None:
        homes = schema["buildings"]
        for name in list(homes):
            if name not in ("Building_1", "Building_2", "Building_15"):
                del homes[name]
        first = homes["Building_1"]
        first["chargers"]["charger_9_9"] = json.loads(json.dumps(first["chargers"]["charger_1_1"]))
        first["chargers"]["charger_9_9"]["charger_simulation"] = "charger_9_9.csv"
        first["chargers"]["charger_7_1"] = {
            "type": "citylearn.electric_vehicle_charger.Charger",
            "charger_simulation": "charger_7_1.csv",
            "autosize": False,
            "attributes": {
                "nominal_power": 7.4,
                "efficiency": 0.93,
                "max_charging_power": 7.4,
                "max_discharging_power": 0.0,
            },
        }
        first["deferrable_appliances"]["washer"] = json.loads(
            json.dumps(first["deferrable_appliances"]["deferrable_appliance_1"])
        )
        first["electrical_storage"]["attributes"] |= {"loss_coefficient": 0.003, "depth_of_discharge": 0.9}
        homes["Building_2"]["electrical_storage"]["attributes"] |= {
            "capacity_power_curve": [[0.0, 1.0], [0.5, 0.8], [0.8, 0.6], [1.0, 0.1]],
            "power_efficiency_curve": [[0.0, 0.8], [1.0, 0.95]],
        }
        del homes["Building_15"]["electrical_storage"]
        homes["Building_15"]["inactive_actions"] = ["electrical_storage"]
        for car in schema["electric_vehicles_def"].values():
            car["battery"]["attributes"]["loss_coefficient"] = 0.001

    schema = write_schema(tmp_path / "community", change)
    # the first charger's car moves to the other charger in every second half of ten rows
    mine = pd.read_csv(schema.parent / "charger_1_1.csv")
    other = mine.copy()
    away = np.arange(len(mine)) % 10 < 5
    for table, gone in ((mine, away), (other, ~away)):
        table.loc[gone, "electric_vehicle_charger_state"] = 3
        table.loc[gone, [c for c in table if c != "electric_vehicle_charger_state"]] = np.nan
    mine.to_csv(schema.parent / "charger_1_1.csv", index=False)
    other.to_csv(schema.parent / "charger_9_9.csv", index=False)

    community = Community.from_citylearn(load(schema, end=8759), dtype=torch.float64)
    assert (community.homes, community.chargers, community.appliances) == (3, 5, 2)
    for kind, start in (("random", 0), ("random", 2000), ("maximum", 300)):
        env = load(schema, start, start + 120)
        compare(env, community, community.reset(1, start, 120), 120, policy(kind, community, 7))


@pytest.mark.parametrize("seconds", [900, 1800])
def test_any_seconds_per_time_step(tmp_path: Path, seconds: int) -> None:
    def change(schema: dict[str, Any]) -> None:
        schema["seconds_per_time_step"] = seconds

    schema = write_schema(tmp_path / "community", change)
    community = Community.from_citylearn(load(schema, end=8759), dtype=torch.float64)
    assert community.hours == seconds / 3600
    compare(load(schema, 24, 144), community, community.reset(1, 24, 120), 120, policy("random", community, 8))


@pytest.mark.parametrize(
    ("feature", "change"),
    [
        (
            "power outage",
            lambda s: s["buildings"]["Building_3"].update(power_outage={"simulate_power_outage": True}),
        ),
        (
            "electrical limit",
            lambda s: s["buildings"]["Building_3"].update(
                electrical_service={"mode": "single_phase", "limits": {"total": {"import_kw": 5.0}}}
            ),
        ),
        (
            "thermal storage",
            lambda s: s["buildings"]["Building_3"].update(
                dhw_storage={
                    "type": "citylearn.energy_model.StorageTank",
                    "autosize": False,
                    "attributes": {"capacity": 3.0},
                }
            ),
        ),
        ("central_agent", lambda s: s.update(central_agent=True)),
        (
            "charger efficiency curve",
            lambda s: s["buildings"]["Building_1"]["chargers"]["charger_1_1"]["attributes"].update(
                charge_efficiency_curve=[[0, 0.8], [1, 0.9]]
            ),
        ),
        ("cooling_storage_soc", lambda s: s["observations"].update(cooling_storage_soc={"active": True})),
    ],
)
def test_what_is_not_modelled_is_refused_by_name(
    tmp_path: Path, feature: str, change: Callable[[dict[str, Any]], None]
) -> None:
    schema = write_schema(tmp_path / "community", change)
    with pytest.raises(UnsupportedSchema, match=feature) as error:
        Observer(Community.from_citylearn(load(schema)))
    assert "\n" not in str(error.value)


def test_thermal_demand_is_refused(tmp_path: Path) -> None:
    schema = write_schema(tmp_path / "community", lambda s: None)
    table = pd.read_csv(schema.parent / "Building_4.csv")
    table.loc[5, "cooling_demand"] = 1.0
    table.to_csv(schema.parent / "Building_4.csv", index=False)
    with pytest.raises(UnsupportedSchema, match="Building_4: thermal demand"):
        Community.from_citylearn(load(schema))


def test_copies_are_independent_and_may_start_anywhere() -> None:
    community = model("offline")
    starts = torch.tensor([0, 17, 4000, 8700])
    draw = torch.Generator().manual_seed(0)
    actions = torch.rand(24, 4, community.homes, community.slots, generator=draw, dtype=torch.float64) * 2 - 1
    together = community.reset(4, starts, 24)
    alone = [community.reset(1, int(s), 24) for s in starts]
    for step in range(24):
        together, flows = community.step(together, actions[step])
        for b in range(4):
            alone[b], own = community.step(alone[b], actions[step, b : b + 1])
            for all_copies, one in zip([*together, *flows], [*alone[b], *own], strict=True):
                torch.testing.assert_close(all_copies[b : b + 1], one, rtol=0, atol=0)


def test_initial_states_of_charge_are_taken() -> None:
    community = model("offline")
    state = community.reset(3, 100, 10, battery_soc=0.5, car_soc=torch.full((3, community.cars), 0.75))
    assert bool((state.soc[:, : community.homes] == 0.5).all()) and bool(
        (state.soc[:, community.homes :] == 0.75).all()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": -1}, "horizon must be at least 1"),
        ({"start": -5}, "choose an earlier start"),
        ({"start": 8700, "horizon": 100}, "choose an earlier start or a shorter horizon"),
    ],
)
def test_impossible_episodes_are_refused_in_one_line(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        model("offline").reset(**arguments)
    assert "\n" not in str(error.value)


def test_gradients_agree_with_finite_differences() -> None:
    """Through ten hours of batteries, cars and net consumption, away from the kinks (float64, storage unrounded)."""
    community = model("offline")
    smooth = Smooth(community)
    draw = torch.Generator().manual_seed(3)
    shape = (10, 1, community.homes, community.slots)
    actions = torch.rand(shape, generator=draw, dtype=torch.float64) * 0.8 + 0.1
    actions = actions * torch.where(torch.rand(shape, generator=draw) < 0.5, -1, 1) * community.action_mask
    weights = torch.rand(10, community.homes, generator=draw, dtype=torch.float64)

    def objective(values: torch.Tensor) -> torch.Tensor:
        state = community.reset(1, 4000, 20, battery_soc=0.6)
        total = values.new_zeros(())
        for k in range(10):
            state, flows = smooth.step(state, values[k])
            total = total + (flows.net * weights[k]).sum() + flows.cost.sum() + state.soc.sum()
        return total

    actions.requires_grad_()
    (gradient,) = torch.autograd.grad(objective(actions), actions)
    controls = torch.zeros_like(actions, dtype=torch.bool)
    controls[..., 0] = True
    controls[:, :, community.charger_home, community.charger_slot] = True
    places = controls.nonzero()[torch.randperm(int(controls.sum()), generator=draw)[:60]]
    assert int((gradient[controls] != 0).sum()) > 60
    for place in places.tolist():
        index = tuple(place)
        moved = actions.detach().clone()
        moved[index] += 1e-6
        up = objective(moved)
        moved[index] -= 2e-6
        slope = (up - objective(moved)) / 2e-6
        assert gradient[index].item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-5)


class Smooth(Community):
    """The model without CityLearn's float32 storage, whose steps would hide a finite difference."""

    def __init__(self, community: Community) -> None:
        self.__dict__.update(community.__dict__)

    def _stored(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_surrogate_gradients_change_no_value(edition: str) -> None:
    community = model(edition)
    draw = torch.Generator().manual_seed(1)
    actions = torch.rand(2, community.homes, community.slots, generator=draw, dtype=torch.float64) * 0.2
    actions.requires_grad_()
    state = community.reset(2, int(community.cycle_earliest[0, 1]), 10)
    _, plain = community.step(state, actions)
    _, passed = community.step(state, actions, surrogate=True)
    for a, b in zip(plain, passed, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(passed.net.sum(), actions)
    home, slot = community.appliance_home[0], community.appliance_slot[0]
    assert bool((gradient[:, home, slot] > 0).all()), "a pending cycle gives no gradient to its start"


def test_the_readme_shows_code_that_runs() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    code = readme.split("```python\n")[1].split("```")[0].replace('find("auto")', 'find("offline")')
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["actions"].grad.abs().sum() > 0 and names["seen"].shape[:2] == (64, 17)
