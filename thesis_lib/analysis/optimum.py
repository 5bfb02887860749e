"""How low the composite could be: a linear programme that knows the whole year, and what its plan gives when replayed.

    python -m thesis_lib.analysis.optimum --profile thesis

The **bound** is the best plan of the community with the physics of `controllers.linear` made easier, never harder,
than CityLearn's. What is relaxed:

- every storage has, at any power, the best efficiency it has at some power it can reach;
- charging and discharging in the same hour are not excluded, and the flat part of the curve "largest power over SOC"
  is taken at its highest; the car's curve is left out, and so are ageing, the least power of chargers and rounding;
- an appliance's cycle may be started in parts, in any hours of its window;
- a departure must have the required SOC less the protocol's tolerance, only if charging at full power from the
  arrival on reaches it. Arrivals without a SOC in the data (which depends on what was done before) have no
  requirement, and what drift leaves of their charge is taken at its most.

So no controller that meets every feasible departure and serves every cycle has a lower composite, to the solver's
tolerance; one that misses departures might. The bound of the **year** is one programme from row 0 to the last, with
the initial SOCs as they are. The bound of the **test** weeks is the sum of one programme a week, each with LEAD rows
before and TAIL rows after, in which nothing counts: what is bought there is free, and batteries, and cars that came
earlier, begin as full as suits. That is looser, but nothing a year-long run could do before or after a test week is
excluded.

Rows of the long table: controller ``optimum``, variant ``bound``, engine ``lp`` (it was rolled in none), with the
composite, which is the bound, and the five terms of the plan that attains it, which are no bounds of their own. There
are no KPIs of service: the plan is no trajectory. The composite is over business as usual in the first engine of the
profile.

The **replay**, variant ``replay``, follows the year's plan in the engines, like any controller: its rows are a run's.
It charges and discharges to the plan's stored energies with the true efficiencies, starts each appliance in the hour
the plan gives the most, and the guard, which knows the true departures, raises what falls short. The true optimum of
the year lies between bound and replay, as far as the replay serves its people.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from thesis_lib import paths
from thesis_lib.analysis import evaluation
from thesis_lib.analysis.evaluation import EvaluationError
from thesis_lib.community import dataset as datasets
from thesis_lib.community.dataset import Dataset, DatasetError
from thesis_lib.community.kpis import SOC_EPSILON, UNITS, WEIGHTS, Service, reachable
from thesis_lib.community.model import Community
from thesis_lib.community.splits import blocks
from thesis_lib.config import Config, ConfigError, load_config
from thesis_lib.controllers import linear, mpc
from thesis_lib.controllers.linear import Array, Plan, Programme, Start, Window
from thesis_lib.controllers.mpc import Cars, Copy, Mpc, MpcPerfect
from thesis_lib.provenance import Stopwatch, ensure_writable, run_record, write_csv_atomic, write_json_atomic

CONTROLLER, BOUND, REPLAY, ENGINE = "optimum", "bound", "replay", "lp"
LEAD, TAIL = 48, 24  # rows around a test week in which nothing counts
# An interior point without crossover: the year has three quarters of a million columns, and its vertex is not needed.
OPTIONS: dict[str, Any] = {"solver": "ipm", "run_crossover": "off"}
CODE = (Path(__file__).resolve(), Path(mpc.__file__).resolve(), *Mpc.code)


def relaxation(community: Community, service: Service, start: int, stop: int, counted: Array | None = None) -> Window:
    """The hours from ``start`` to ``stop`` as a window whose best plan is a bound."""
    c, d, rows = community, linear.devices(community, None), np.arange(start, stop)
    read = c.read(torch.arange(start, stop, device=c.device))

    def number(values: torch.Tensor) -> Array:
        return values.double().cpu().numpy()

    cars = c.charger_car.cpu().numpy()
    plugged = number(read.connected) > 0
    forced = number(read.forced)[:, cars]
    origin, factor, given = np.full(plugged.shape, -2), np.ones(plugged.shape), np.zeros(plugged.shape)
    at_most = np.zeros_like(plugged)
    noise, drift = number(c.drift_noise), read.drift.cpu().numpy()[:, cars] - int(c.drift_base[0])
    for k in range(c.chargers):
        last = -1  # hour of the window in which the car was last plugged in
        for hour in np.flatnonzero(plugged[:, k]).tolist():
            brings = forced[hour - 1, k] if hour else -1.0
            if brings >= 0:
                factor[hour, k], given[hour, k] = 0.0, max(brings * d.car_capacity[k], d.car_floor[k])
            elif last == hour - 1 and (hour or start == 0):
                origin[hour, k] = hour - 1
            elif last < 0:  # it came before the window: as full as it likes
                factor[hour, k], given[hour, k], at_most[hour, k] = 0.0, d.car_capacity[k], True
            else:  # what drift leaves of what it left with; the floor it is lifted to makes that convex: the chord
                draws = drift[last:hour, k]
                left = float(np.prod(noise[draws[draws >= 0]]))
                ends = [max(left * x, d.car_floor[k]) for x in (d.car_floor[k], d.car_capacity[k])]
                slope = (ends[1] - ends[0]) / (d.car_capacity[k] - d.car_floor[k])
                origin[hour, k], factor[hour, k], at_most[hour, k] = last, slope, True
                given[hour, k] = ends[0] - slope * d.car_floor[k]
            last = hour
    need = np.zeros(plugged.shape)
    s = service.sessions
    s = s[(s.departure >= start) & (s.departure < stop) & s.arrival_soc.notna()]
    goal = np.clip(s.required_soc.to_numpy() - service.tolerance, 0, None)
    s = s[reachable(service, s, s.arrival_soc.to_numpy(), s.departure - s.connected_from + 1, goal)]
    goal = s.required_soc.to_numpy() - service.tolerance - SOC_EPSILON
    need[s.departure.to_numpy() - start, s.charger.to_numpy()] = goal * d.car_capacity[s.charger.to_numpy()]
    starts = []
    for a, cycles in enumerate(c.cycle_window.tolist()):
        for n, (first, last, duration) in enumerate(cycles[:-1]):
            if first >= start and last + duration <= stop:
                profile = number(c.cycle_profile[a, n])[:duration]
                starts += [Start(a, n, hour - start, profile) for hour in range(first, last + 1)]
    begins = start == 0
    initial = number(c.start_soc[0])[cars] if begins else np.zeros(c.chargers)
    initial = np.where(initial >= 0, initial, number(c.storage_initial_soc)[c.homes + cars])
    return Window(
        net=number(read.load - read.pv),
        price=number(c.price(read).expand(-1, c.homes)),
        carbon=number(c.carbon(read).expand(-1, c.homes)),
        day=rows // c.steps_per_day,
        plugged=plugged,
        idle=np.zeros(c.chargers, bool),
        origin=origin,
        factor=factor,
        given=given,
        at_most=at_most,
        need=need,
        battery_energy=number(c.storage_initial_soc[: c.homes]) * d.battery_capacity if begins else None,
        car_energy=np.maximum(initial * d.car_capacity, d.car_floor),
        previous=None,
        peak=-np.inf,
        counted=counted,
        tie=0.0,
        starts=starts,
    )


def solve(community: Community, window: Window, scale: dict[str, float]) -> Plan:
    """The best plan of a relaxed window.

    Args:
        community: whose window it is.
        window: of `relaxation`.
        scale: what a unit of each term counts, see `totals`.

    Returns:
        The plan; its objective is the bound.

    Raises:
        SolverError: HiGHS came to no optimum.
    """
    programme = Programme(linear.devices(community, None), window, scale)
    solver = linear.solver(**OPTIONS)
    programme.pass_to(solver)
    del programme.entries  # the solver has its own copy
    linear.run(solver)
    return programme.read(solver)


def terms(window: Window, plan: Plan) -> dict[str, float]:
    """The composite's terms of a plan on the hours that count, in the units of `kpis.UNITS`, ``daily_peak`` a mean."""
    inside = np.ones(len(plan.district), bool) if window.counted is None else window.counted
    up = np.clip(np.diff(plan.district, prepend=plan.district[:1]), 0.0, None)
    return {
        "cost": float((window.price * plan.imported)[inside].sum()),
        "emissions": float((window.carbon * plan.imported)[inside].sum()),
        "ramping": float(up[inside].sum()),
        "daily_peak": float(pd.Series(plan.district[inside]).groupby(window.day[inside]).max().mean()),
        "import": float(np.clip(plan.district, 0.0, None)[inside].sum()),
    }


def totals(reference: pd.DataFrame, split: str, days: int) -> dict[str, float]:
    """What the terms of a plan are divided by to be shares of business as usual: sums over the split's rows.

    Args:
        reference: rows of business as usual of one engine.
        split: "test" or "year".
        days: how many the split has: the daily peak is a mean, its total the mean times days.
    """
    values = reference[reference.split == split].set_index("kpi").value
    return {term: float(values[term]) * (days if term == "daily_peak" else 1) for term in WEIGHTS}


class Replay(MpcPerfect):
    """Follows a plan of the whole data from row 0: a trajectory as near to it as the true physics allows."""

    code = CODE

    def __init__(self, plan: Plan, starts: list[Start]) -> None:
        """``plan`` of a window that begins at row 0, ``starts`` its window's."""
        super().__init__()
        self.plan = plan
        share: dict[tuple[int, int], tuple[float, int]] = {}
        for start, part in zip(starts, plan.starts, strict=True):
            key = start.appliance, start.cycle
            share[key] = max(share.get(key, (-1.0, 0)), (float(part), start.hour))
        self.begin = {(appliance, hour) for (appliance, _), (_, hour) in share.items()}

    def reset(self, community: Community) -> None:
        """Begin an episode; see `MpcPerfect`."""
        super().reset(community)
        c = community
        share = torch.linspace(0, 1, 1001, dtype=torch.float64)
        grid = share.to(c.dtype).unsqueeze(1).expand(-1, c.homes + c.cars)
        leg = c.efficiency_curve(grid).double().clamp(0, 1).sqrt().cpu().numpy()[:, : c.homes]
        power = self.battery_energy * share.numpy()[:, None]  # (points, H) kWh at the terminals
        self.terminal, self.gained, self.drawn = power, power * leg, power / leg

    def _decide(self, seen: Array, copy: Copy) -> tuple[Array, Cars]:
        c, d = self.community, self.devices
        homes = np.arange(c.homes)
        load, _, soc, _ = seen[homes[:, None], self.own].T
        self._tell_time(load / c.load_to_observed, copy)
        cars = self._see_cars(seen, copy)
        self._know(cars, copy.row)
        actions = np.zeros((c.homes, c.slots))
        change = self.plan.battery_energy[copy.row] - soc * d.battery_capacity
        for home in np.flatnonzero(self.battery_energy > 0):
            curve = self.gained if change[home] > 0 else self.drawn
            power = np.interp(abs(change[home]), curve[:, home], self.terminal[:, home])
            actions[home, self.battery_slot[home]] = np.sign(change[home]) * power / self.battery_energy[home]
        gain = np.where(cars.connected, self.plan.car_energy[copy.row] / d.car_capacity - cars.soc, 0.0)
        wanted = self.guard.action_for(torch.as_tensor(gain[self.chargers]).float().unsqueeze(0))[0].numpy()
        for k, action in zip(self.chargers, wanted, strict=True):
            # Below half of the least power nothing flows, as in `Mpc`.
            least = self.least_power[k, 0] / d.charge_power[k]
            small = gain[k] > 0 and gain[k] * d.car_capacity[k] < 0.5 * self.least_power[k, 0] * d.car_charge_kept[k]
            if cars.connected[k] and not small and abs(gain[k]) > 1e-6:
                actions[d.charger_home[k], self.slots["charger_slot"][k]] = (
                    max(action, least) if gain[k] > 0 else action
                )
        for appliance, hour in self.begin:
            slot = self.slots["appliance_slot"][appliance]
            if hour == copy.row and slot >= 0:
                actions[d.appliance_home[appliance], slot] = 1.0
        return actions, cars


def _settings(config: Config) -> dict[str, Any]:
    return {"over": config.engines[0], "options": OPTIONS}


def recipe(config: Config, data: Dataset, end: int | None = None) -> str:
    """The recipe of the bound's rows, as `evaluation.recipe_of`; arguments as of `evaluate_optimum`."""
    return evaluation.recipe_of(CONTROLLER, 0, data, [ENGINE], _settings(config), code=CODE, end=end)


def evaluate_optimum(config: Config, data: Dataset, *, end: int | None = None, force: bool = False) -> pd.DataFrame:
    """Compute both bounds and replay the year's plan, unless rows of the same recipe are there.

    Args:
        config: the profile; its first engine's business as usual is what the bound is over.
        data: the edition.
        end: last row, for small trials; None for the year.
        force: compute even if the rows are there.

    Returns:
        The rows of bound and replay, columns `evaluation.COLUMNS`.

    Raises:
        EvaluationError: no rows of business as usual for this edition, engine and window.
        SolverError: HiGHS came to no optimum.
        OSError: results cannot be written.
    """
    folder = ensure_writable(paths.run(config.profile, data.edition, CONTROLLER, BOUND, 0))
    reference = evaluation.references(config.profile, data, config.engines[:1], 0, end)[config.engines[0]]
    settings, made_from = _settings(config), recipe(config, data, end)
    watch = Stopwatch()

    @functools.cache
    def year() -> tuple[Community, Service, Window, Plan]:
        env = datasets.load(data, end=end)
        env.reset()
        community, service = Community.from_citylearn(env, dtype=torch.float64), Service.from_citylearn(env)
        window = relaxation(community, service, 0, community.rows - 1)
        days = -(-len(window.day) // community.steps_per_day)
        with watch("bound_year"):
            plan = solve(community, window, totals(reference, "year", days))
        return community, service, window, plan

    def replay() -> Replay:
        _, _, window, plan = year()
        return Replay(plan, window.starts)

    if force or evaluation.recorded_recipe(folder) != made_from:
        community, service, window, plan = year()
        lines = [("year", kpi, value) for kpi, value in terms(window, plan).items()]
        lines.append(("year", "composite_vs_bau", plan.objective))
        hourly = pd.DataFrame({"engine": ENGINE, "row": np.arange(len(plan.district)), "net": plan.district.round(3)})
        with watch("bound_test"):
            weeks, test = test_weeks(community, service, reference)
        lines += [("test", kpi, value) for kpi, value in test.items()]
        rows = pd.DataFrame(lines, columns=["split", "kpi", "value"]).assign(
            edition=data.edition, controller=CONTROLLER, variant=BOUND, seed=0, engine=ENGINE
        )
        rows = rows.assign(unit=rows.kpi.map(UNITS))[evaluation.COLUMNS]
        (folder / "run.json").unlink(missing_ok=True)
        write_csv_atomic(folder / "hourly.csv.gz", hourly)
        write_csv_atomic(folder / "weekly.csv", weeks)
        write_csv_atomic(folder / "kpis.csv", rows)
        record = run_record(
            config,
            data,
            watch,
            seeds=[0],
            engines=[ENGINE],
            controller=CONTROLLER,
            variant=BOUND,
            settings=settings,
            end=end,
            lacking_kwh=float(plan.lacking.sum()),
            recipe=made_from,
        )
        write_json_atomic(folder / "run.json", record)

    rolled = evaluation.evaluate_controller(
        *(CONTROLLER, REPLAY, 0, replay, data, config.profile, config.engines),
        settings=settings,
        code=CODE,
        config=config,
        end=end,
        progress=False,
        force=force,
    )
    return pd.concat([evaluation.read_rows(folder / "kpis.csv"), rolled], ignore_index=True)


def test_weeks(
    community: Community, service: Service, reference: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Bound the test weeks, each by itself.

    Args:
        community, service: of the data.
        reference: rows of business as usual.

    Returns:
        The plans' terms by week, as `evaluation.WEEKLY`, and for the split: the terms, and composite_vs_bau. Both
        are empty if the data hold no whole test week.

    Raises:
        SolverError: HiGHS came to no optimum.
    """
    last = community.rows - 1  # the row without an action
    spans = [(start, min(stop, last)) for start, stop in blocks("test", community.rows)]
    spans = [(start, stop) for start, stop in spans if (stop - start + 1) >= 7 * community.steps_per_day]
    lines, bound, sums = [], 0.0, dict.fromkeys(WEIGHTS, 0.0)
    days = {n: -(-(stop - start) // community.steps_per_day) for n, (start, stop) in enumerate(spans)}
    for week, (start, stop) in enumerate(spans):
        begin, finish = max(start - LEAD, 0), min(stop + TAIL, last)
        rows = np.arange(begin, finish)
        window = relaxation(community, service, begin, finish, (rows >= start) & (rows < stop))
        plan = solve(community, window, totals(reference, "test", sum(days.values())))
        bound += plan.objective
        for kpi, value in terms(window, plan).items():
            lines.append((ENGINE, week, kpi, value))
            sums[kpi] += value * (days[week] if kpi == "daily_peak" else 1)
    sums["daily_peak"] /= max(sum(days.values()), 1)
    weekly = pd.DataFrame(lines, columns=evaluation.WEEKLY)
    return weekly, sums | {"composite_vs_bau": bound} if spans else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Leave the rows of the bound and of its replay.

    Exit status 0, or 1 after a one-line error on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m thesis_lib.analysis.optimum", description=main.__doc__)
    parser.add_argument("--profile", default="quick", help="configs/<profile>.yaml (default: quick)")
    parser.add_argument("--edition", choices=["auto", "official", "offline"], help="default: the profile's")
    given = parser.parse_args(arguments)
    try:
        config = load_config(given.profile)
        data = datasets.find(given.edition or config.edition)
        rows = evaluate_optimum(config, data)
    except (ConfigError, DatasetError, EvaluationError, linear.SolverError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{CONTROLLER}: {len(rows)} rows", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
