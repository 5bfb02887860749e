"""The guard: stepped in CityLearn's own charger and battery, it never misses a departure that could be met."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from citylearn.base import EpisodeTracker
from citylearn.electric_vehicle import ElectricVehicle
from citylearn.electric_vehicle_charger import Charger
from citylearn.energy_model import Battery
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_lib.maddpg.guard import (
    ApplianceSlot,
    ChargerPhysics,
    ChargerSlot,
    Guard,
    action_table,
    reach_table,
)

STEPS = 26
LOW = torch.tensor([[-1.0, -1.0, 0.0]])
CURVES = {
    "efficiency_curve": np.array([[0.0, 0.25, 0.65, 0.75, 1.0], [0.77, 0.81, 0.88, 0.90, 0.86]]),
    "power_curve": np.array([[0.0, 0.75, 1.0], [0.95, 0.90, 0.20]]),
}
OFFICIAL = [  # power, least, discharging power, least, efficiency, capacity, least SOC
    (11.0, 1.4, 7.2, 0.0, 0.95, 60.0, 0.2),
    (22.0, 3.7, 22.0, 3.7, 0.95, 80.0, 0.15),
    (7.4, 0.0, 7.4, 0.0, 0.95, 40.0, 0.15),
    (7.4, 0.0, 7.4, 0.0, 0.95, 100.0, 0.1),
    (11.0, 0.0, 11.0, 0.0, 0.90, 50.0, 0.1),
]
PHYSICS = [ChargerPhysics(*row[:6], car_power=50.0, car_min_soc=row[6], **CURVES) for row in OFFICIAL]
PHYSICS.append(replace(PHYSICS[0], car_power=12.0))  # a car slower than its charger
GUARDS: dict[tuple[int, int, float], Guard] = {}


def guard(number: int, spare: int = 0, tolerance: float = 0.0) -> Guard:
    key = (number, spare, tolerance)
    if key not in GUARDS:
        slot = ChargerSlot(0, 1, connected=0, departure_time=1, required_soc=2, soc=3, physics=PHYSICS[number])
        GUARDS[key] = Guard([slot], [], LOW, undisclosed_pace=0.02, spare_steps=spare, tolerance=tolerance)
    return GUARDS[key]


class Session:
    """A car at a charger in CityLearn's own objects."""

    def __init__(self, physics: ChargerPhysics, soc: float):
        tracker = EpisodeTracker(0, STEPS + 1)
        tracker.next_episode(STEPS + 2, False, False, 0)
        common = {"episode_tracker": tracker, "seconds_per_time_step": 3600, "random_seed": 0}
        self.battery = Battery(
            capacity=physics.capacity, nominal_power=physics.car_power, efficiency=0.9, loss_coefficient=0.0,
            capacity_loss_coefficient=0.0, depth_of_discharge=1.0 - physics.car_min_soc, initial_soc=soc,
            power_efficiency_curve=physics.efficiency_curve.T.tolist(),
            capacity_power_curve=physics.power_curve.T.tolist(), time_step_ratio=1.0, **common,
        )  # fmt: skip
        self.car = ElectricVehicle(battery=self.battery, name="car", **common)
        self.charger = Charger(
            charger_simulation=None, charger_id="charger", efficiency=physics.efficiency,
            max_charging_power=physics.power, min_charging_power=physics.power_min,
            max_discharging_power=physics.discharge_power, min_discharging_power=physics.discharge_power_min,
            time_step_ratio=1.0, **common,
        )  # fmt: skip
        for part in (self.car, self.charger):
            part.reset()
        self.battery.force_set_soc(soc)
        self.soc = soc  # as observed: of the last action

    def act(self, action: float) -> float:
        self.charger.plug_car(self.car)
        self.charger.update_connected_electric_vehicle_soc(action)
        self.soc = float(self.battery.soc[self.battery.time_step])
        self.car.next_time_step()
        self.charger.next_time_step()
        return self.soc


def seen(departure: int, required: float, soc: float) -> torch.Tensor:
    return torch.tensor([[[1.0, float(departure), required, soc]]])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_departure_that_could_be_met_is_missed(data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(PHYSICS) - 1), label="charger")
    hours = data.draw(st.integers(1, STEPS - 2), label="hours")
    required = data.draw(st.floats(0.0, 1.0), label="required")
    arrival = data.draw(st.floats(0.0, 1.0), label="arrival")
    wishes = data.draw(st.lists(st.floats(-1.0, 1.0), min_size=hours, max_size=hours), label="wishes")
    flat_out, guarded = Session(PHYSICS[number], arrival), Session(PHYSICS[number], arrival)
    best = arrival
    for _ in range(hours):
        best = max(best, flat_out.act(1.0))
    for hour, wish in enumerate(wishes):
        actions = torch.tensor([[[0.0, wish, 0.0]]])
        action = guard(number)(seen(hours - 1 - hour, required, guarded.soc), actions)[0, 0, 1]
        assert action >= wish
        guarded.act(float(action))
    if best >= required:
        assert guarded.soc >= required - 2e-4
    else:
        assert guarded.soc >= best - 2e-4


@pytest.mark.parametrize("number", [0, 1])
def test_the_least_power_is_not_lost_in_the_deadband(number: int) -> None:
    """float32 rounds 1.4 / 11 down, and a power a hair below the charger's least charges nothing."""
    physics = PHYSICS[number]
    session = Session(physics, physics.car_min_soc)
    required = physics.car_min_soc + 0.5 * physics.power_min / physics.capacity
    action = guard(number)(seen(0, required, session.soc), LOW.new_zeros(1, 1, 3))[0, 0, 1]
    assert session.act(float(action)) >= required


@pytest.mark.parametrize("number", range(len(PHYSICS)))
def test_the_guard_waits_as_long_as_it_can(number: int) -> None:
    session, actions = Session(PHYSICS[number], 0.3), []
    for hour in range(20):
        action = float(guard(number)(seen(19 - hour, 0.9, session.soc), LOW.new_zeros(1, 1, 3))[0, 0, 1])
        actions.append(action)
        session.act(action)
    first = next(i for i, action in enumerate(actions) if action > 0)
    assert first > 0 and all(action > 0.9 for action in actions[first + 1 : -1])
    assert 0.9 - 1e-3 <= session.soc <= 0.9 + PHYSICS[number].power_min / PHYSICS[number].capacity + 1e-2


def test_the_tables_are_what_they_say() -> None:
    for physics in PHYSICS:
        table = reach_table(physics)
        assert (np.diff(table, axis=1) >= -1e-12).all() and (np.diff(table, axis=0) <= 1e-12).all()
        after = physics.full_power(np.maximum(table[1], physics.car_min_soc))
        assert (after >= table[0] - 1e-3).all()
        first, step, actions = action_table(physics)
        assert actions[0] == -1.0 and actions[-1] == 1.0 and (np.diff(actions) > 0).all() and first < 0 < step


def test_an_undisclosed_departure_is_prepared_at_the_fitted_pace() -> None:
    session = Session(PHYSICS[2], 0.4)
    for _ in range(10):
        before = session.soc
        action = guard(2)(seen(-1, 0.8, session.soc), torch.tensor([[[0.0, -1.0, 0.0]]]))
        session.act(float(action[0, 0, 1]))
        assert session.soc - before == pytest.approx(0.02, abs=5e-4)
    kept = Session(PHYSICS[2], 0.9)
    for _ in range(3):
        kept.act(float(guard(2)(seen(-1, 0.8, kept.soc), torch.tensor([[[0.0, -1.0, 0.0]]]))[0, 0, 1]))
    assert kept.soc == pytest.approx(0.8, abs=2e-3)


def test_spare_hours_and_tolerance() -> None:
    idle = torch.zeros(1, 1, 3)
    assert guard(2, spare=1)(seen(1, 0.8, 0.7), idle)[0, 0, 1] > 0.5 > guard(2)(seen(1, 0.8, 0.7), idle)[0, 0, 1]
    assert guard(2, tolerance=0.05)(seen(0, 0.8, 0.755), idle)[0, 0, 1] == 0


def test_absent_cars_and_other_slots_are_left_alone() -> None:
    actions = torch.tensor([[[-0.7, -0.3, 0.2]]])
    absent = torch.tensor([[[0.0, -1.0, -0.1, -0.1]]])
    assert torch.equal(guard(0)(absent, actions), actions)
    assert guard(0)(seen(0, 1.0, 0.2), actions)[0, 0].tolist() == pytest.approx([-0.7, 1.0, 0.2])


def test_gradients_pass_through() -> None:
    observations = seen(0, 0.8, 0.72).requires_grad_()
    actions = torch.tensor([[[0.3, 0.0, 0.2]]], requires_grad=True)
    guard(2)(observations, actions).sum().backward()
    assert actions.grad is not None and actions.grad[0, 0].tolist() == [1.0, 0.0, 1.0]  # 0 where the guard decides
    assert observations.grad is not None and observations.grad[0, 0, 3] < 0  # fuller, so less to charge
    free = torch.tensor([[[0.3, 0.9, 0.2]]], requires_grad=True)
    guard(2)(observations.detach(), free).sum().backward()
    assert free.grad is not None and free.grad[0, 0].tolist() == [1.0, 1.0, 1.0]


def test_an_appliance_that_cannot_wait_is_started() -> None:
    slot = ApplianceSlot(0, 2, can_start=0, hours_until_latest_start=1, hours_until_deadline=2, duration_steps=3)
    washing = Guard([], [slot], LOW, undisclosed_pace=0.0)
    cases = {  # can start, hours until latest start, until deadline, duration -> started
        (1.0, 2.0, 4.0, 2.0): 0.0,
        (1.0, 0.0, 4.0, 2.0): 1.0,
        (1.0, 2.0, 1.0, 2.0): 1.0,
        (0.0, 0.0, 0.0, 2.0): 0.0,
    }
    for observed, expected in cases.items():
        assert washing(torch.tensor([[observed]]), torch.zeros(1, 1, 3))[0, 0].tolist() == [0.0, 0.0, expected]
