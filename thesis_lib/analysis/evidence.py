"""What the claims are judged by: savings, their impact in a year, the thesis' indicators, and checks of the code.

Everything is computed from rows, records and flows that runs left, or from the data set and the code as they are;
``claims`` says what it means. A figure of one seed has no interval, and what has no rows is None.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from thesis_lib import paths
from thesis_lib.analysis import comparison, evaluation, statistics, tables
from thesis_lib.analysis.comparison import Pair
from thesis_lib.analysis.statistics import Estimate
from thesis_lib.community.dataset import Dataset
from thesis_lib.community.kpis import WEIGHTS, Service, Trajectory, team_reward
from thesis_lib.community.model import Community
from thesis_lib.community.splits import blocks
from thesis_lib.controllers.rules import BusinessAsUsual
from thesis_lib.maddpg.training import CommunityWorld, TrainConfig, build_policy

NO_CONTROL: Pair = ("charge_on_arrival", "default")
BAU: Pair = (tables.BAU, "default")
HOURS_A_YEAR = 8760
THERMAL = ("cooling_demand", "heating_demand", "dhw_demand")


@dataclass(frozen=True)
class Rows:
    """The long table of a profile in one split, engine and edition, and where its runs lie."""

    profile: str
    kpis: pd.DataFrame  # long; empty if the profile has no rows
    split: str
    engine: str
    edition: str

    @classmethod
    def read(cls, profile: str, edition: str, engines: tuple[str, ...] = ("citylearn", "model")) -> Rows:
        """The rows of every finished run of a profile; the first of the engines that it has.

        Raises:
            EvaluationError: a run's table has other columns.
        """
        found = [evaluation.read_rows(run.folder / "kpis.csv") for run in evaluation.runs(profile, edition)]
        kpis = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=evaluation.COLUMNS)
        kpis["seed"] = kpis["seed"].astype(int)
        engine = next((name for name in engines if (kpis["engine"] == name).any()), engines[0])
        split = "test" if (kpis["split"] == "test").any() or kpis.empty else "year"
        return cls(profile, kpis, split, engine, edition)

    @property
    def where(self) -> dict[str, str]:
        """Split, engine and edition, as the functions on the long table take them."""
        return {"split": self.split, "engine": self.engine, "edition": self.edition}

    def selected(self, split: str | None = None) -> pd.DataFrame:
        """Rows of the split (this one, or another) in the engine and edition; may be empty."""
        wanted = {"split": split or self.split, "engine": self.engine, "edition": self.edition}
        return self.kpis[np.logical_and.reduce([self.kpis[name] == value for name, value in wanted.items()])]

    def values(self, pair: Pair, kpi: str = tables.COMPOSITE, split: str | None = None) -> pd.Series:
        """A KPI by seed; empty without rows."""
        return comparison.by_seed(self.selected(split), pair, kpi)

    def has(self, pair: Pair) -> bool:
        """Whether a controller has rows."""
        return not self.values(pair).empty

    def serves(self, pair: Pair) -> bool:
        """Whether a controller with rows passes the service gate."""
        return bool(tables.gate(self.selected())["passes"].loc[pair])

    def ours(self) -> Pair | None:
        """Our headline variant, or what stands for it as long as it has no rows."""
        return comparison.ours(self.selected())

    def saved(self, pair: Pair, base: Pair, kpi: str, split: str | None = None) -> Estimate | None:
        """Share of the base's KPI that a controller saves, by seed: 0.2 is a fifth less; None without rows."""
        own, other = self.values(pair, kpi, split), self.values(base, kpi, split)
        if own.empty or other.empty:
            return None
        return statistics.mean(1 - own / other.mean())

    def difference(self, pair: Pair, base: Pair, kpi: str = tables.COMPOSITE) -> Estimate | None:
        """A KPI's paired difference by seed, first minus second; None without a seed in common."""
        own, other = self.values(pair, kpi), self.values(base, kpi)
        differences = comparison.against(own, other, base[0] in comparison.LEARNERS)
        return statistics.mean(differences) if len(differences) else None

    def sources(self, *pairs: Pair) -> str:
        """The folders of the runs of these controllers, with their seeds and the commits that made them."""
        return "; ".join(found for pair in pairs if (found := self._source(pair)))

    def _source(self, pair: Pair) -> str:
        folder = paths.run(self.profile, self.edition, *pair, 0).parent
        records = {run.seed: run.record() for run in evaluation.runs(self.profile, self.edition, *pair)}
        if not records:
            return ""
        commits = sorted({_commit(record["git"]) for record in records.values()})
        seeds = ", ".join(map(str, sorted(records)))
        if len(records) > 2 and max(records) - min(records) == len(records) - 1:
            seeds = f"{min(records)}-{max(records)}"
        return f"{folder.relative_to(paths.ROOT).as_posix()} (seeds {seeds}; commit {', '.join(commits)})"

    def car_energy(self, pair: Pair) -> float:
        """What the chargers drew less what the cars gave back, in the year of seed 0, kWh; NaN without its flows."""
        flows = self.flows(pair)
        return float("nan") if flows is None else tables.car_energy(flows)

    def training_logs(self, pair: Pair) -> pd.DataFrame:
        """The validations of every seed of a learner; empty without."""
        return evaluation.training_logs(self.profile, self.edition, [pair])

    def flows(self, pair: Pair) -> pd.DataFrame | None:
        """Controlled flows of seed 0; None if they are not there."""
        place = self.profile, self.edition, *pair
        return evaluation.read_flows(*place) if evaluation.has_flows(*place) else None


def _commit(git: Mapping[str, Any]) -> str:
    """A commit as printed, and whether the tree differed from it."""
    return (git["commit"] or "no commit")[:7] + (" with uncommitted changes" if git.get("dirty") else "")


# --------------------------------------------------------------------------------- what it comes to


BASES = (NO_CONTROL, BAU, comparison.HABITS)  # what savings are counted against


def impact(rows: Rows, pair: Pair) -> pd.DataFrame:
    """What a controller saves in a year: energy bought, money and CO2.

    Against `BASES`; what it saves against the untrained habits is what learning saves.

    Returns:
        One line per reference and KPI: base (controller), kpi, unit, saved and _half (t interval over seeds) in the
        run's whole year, training weeks included; saved_test and _half, the test weeks' savings scaled to a year (NaN
        in a run without them); ceiling, all that the reference buys, pays or emits in the year: more cannot be saved.
    """
    lines = []
    units = {"import": "kWh", "cost": "EUR", "emissions": "kg"}
    for base in BASES:
        for kpi, unit in units.items():
            own, other = rows.values(pair, kpi, "year"), rows.values(base, kpi, "year")
            if own.empty or other.empty:
                continue
            year = other.mean() - own
            line = {"base": base[0], "kpi": kpi, "unit": unit, "saved": year.mean()}
            line["saved_half"] = statistics.half_width(year)
            tested = rows.values(base, kpi, "test").mean() - rows.values(pair, kpi, "test")
            scale = HOURS_A_YEAR / sum(stop - start for start, stop in blocks("test"))
            line |= {"saved_test": (tested * scale).mean(), "saved_test_half": statistics.half_width(tested * scale)}
            lines.append(line | {"ceiling": other.mean()})
    columns = ["base", "kpi", "unit", "saved", "saved_half", "saved_test", "saved_test_half", "ceiling"]
    return pd.DataFrame(lines, columns=columns)


def indicators(
    rows: Rows, hourly: pd.DataFrame, runs: Mapping[Pair, Trajectory], service: Service, inside: np.ndarray
) -> pd.DataFrame:
    """The thesis' indicators of each controller, over the same hours.

    Args:
        rows: of the thesis' profile.
        hourly: controller, variant, seed, row, net (kWh) of the hours that count.
        runs: seed 0 of each controller whose flows are there.
        service: what was owed.
        inside: the rows that count.

    Returns:
        controller, variant; daily_peak (kW, mean over seeds) and peak_reduction (share of BAU's); peak_hour (hour of
        the day with the highest mean net) and hour_shift (against BAU's, hours, -12 to 12); load_factor (1 minus the
        median penalty); car_energy (kWh that the chargers drew less what the cars gave back in these hours, seed 0);
        clean_charging (share of the energy into cars in hours whose carbon intensity is at most the
        median of these hours, seed 0); charging_carbon (kg/kWh of that energy, seed 0); co2_avoided (kg against BAU
        in these hours); ev_departures_met; charge_satisfaction (mean over feasible departures of SOC over required,
        at most 1, seed 0). NaN where there are no rows or flows. Thermal comfort cannot be measured: no thermal demand.
    """
    net = hourly[hourly["row"].isin(inside)]
    around = net.assign(hour=net["row"] % 24).groupby([*tables.KEY, "hour"])["net"].mean()
    lines = []
    usual_hour = _peak_hour(around, BAU)
    for pair in tables.keys(rows.selected()):
        hour, saved = _peak_hour(around, pair), rows.saved(pair, BAU, "daily_peak")
        emitted, usual = rows.values(pair, "emissions"), rows.values(BAU, "emissions")
        penalty = rows.values(pair, "load_factor_penalty_median")
        line = {
            **dict(zip(tables.KEY, pair, strict=True)),
            "daily_peak": rows.values(pair, "daily_peak").mean(),
            "peak_reduction": saved.value if saved else np.nan,
            "peak_hour": hour,
            "hour_shift": (hour - usual_hour + 12) % 24 - 12,
            "load_factor": 1 - penalty.mean(),
            "car_energy": np.nan,
            "clean_charging": np.nan,
            "charging_carbon": np.nan,
            "co2_avoided": usual.mean() - emitted.mean(),
            "ev_departures_met": rows.values(pair, "ev_departures_met").mean(),
            "charge_satisfaction": np.nan,
        }
        if pair in runs:
            line |= _charging(runs[pair], service, inside)
        lines.append(line)
    return pd.DataFrame(lines)


def _peak_hour(around: pd.Series, pair: Pair) -> float:
    return float(around.loc[pair].idxmax()) if pair in around.index.droplevel("hour") else np.nan


def _charging(run: Trajectory, service: Service, inside: np.ndarray) -> dict[str, float]:
    """How clean the cars' energy is, and how full they leave, over the rows inside."""
    hours = np.isin(run.rows, inside)
    energy = np.clip(run.chargers[hours], 0, None).sum(axis=1)
    carbon = run.carbon[hours].mean(axis=1)
    left = tables.departures(run, service, "")
    left = left[left["feasible"] & left["row"].isin(inside)]
    share = (left["soc"] / left["required"].where(left["required"] > 0)).clip(upper=1).fillna(1)
    return {
        "car_energy": float(run.chargers[hours].sum()),
        "clean_charging": energy[carbon <= np.median(carbon)].sum() / energy.sum() if energy.sum() else np.nan,
        "charging_carbon": (energy * carbon).sum() / energy.sum() if energy.sum() else np.nan,
        "charge_satisfaction": float(share.mean()),
    }


def c_rates(flows: pd.DataFrame, idle: float = 1.5e-3) -> np.ndarray:
    """C-rates of the home batteries, 1/h: change of their SOC in each hour in which one works (more than ``idle``).

    Args:
        flows: as ``evaluation.read_flows`` gives them.
        idle: change of SOC below which a battery counts as idle: more than one step of the thousandths that are kept.
    """
    soc = flows[[name for name in flows if name.startswith("battery_soc/")]]
    steps = soc.diff().iloc[1:].abs().to_numpy().ravel()
    return steps[steps > idle]


# --------------------------------------------------------------- checks of the data and of the code


def thermal_demand(data: Dataset) -> float:
    """All thermal demand of the data set, kWh: cooling, heating and hot water of every home.

    Raises:
        KeyError: a home's file lacks one of the columns.
    """
    buildings = json.loads(data.schema.read_text(encoding="utf-8"))["buildings"].values()
    files = [data.schema.parent / building["energy_simulation"] for building in buildings]
    return float(sum(pd.read_csv(file, usecols=list(THERMAL)).abs().to_numpy().sum() for file in files))


def action_kinds(community: Community) -> list[str]:
    """The kinds of devices that can be controlled, such as ``electrical_storage``, without their numbers."""
    names = {name for home in community.action_names for name in home}
    kinds = ("electrical_storage", "electric_vehicle_storage", "deferrable_appliance")
    return sorted({next((kind for kind in kinds if name.startswith(kind)), name) for name in names})


def reward_responds(community: Community, row: int = 12) -> tuple[float, float]:
    """The team reward of the same hour under two actions: everything idle, everything at full power.

    Args:
        community: the model; one hour of two copies is stepped.
        row: the hour.

    Returns:
        Both rewards, with every term's scale at 1.
    """
    state = community.reset(2, row, 2)
    full = community.action_high.clamp(min=0).expand(2, -1, -1).clone()
    full[0] = 0
    with torch.inference_mode():
        _, flows = community.step(state, full.to(community.dtype))
        zeros = torch.zeros(2, dtype=flows.net.dtype)
        reward = team_reward(
            flows.net, flows.cost, flows.emissions, zeros, zeros, zeros.bool(), dict.fromkeys(WEIGHTS, 1.0)
        )
    return float(reward[0]), float(reward[1])


def decides_alone(community: Community, settings: Mapping[str, Any]) -> float:
    """How much a home's action changes when everything that other homes observe does; 0 is decentralised.

    Args:
        community: the model, in float32.
        settings: of the learner (``Config.train_for``); with ``coordination: none`` the answer should be 0.

    Returns:
        The largest change of any home's action, with fresh weights.
    """
    config = TrainConfig(**dict(settings))
    world = CommunityWorld(community, BusinessAsUsual())
    household = world.make_household(world.guard_settings(config))
    shape = (community.homes, max(map(len, community.observation_names)))
    torch.manual_seed(0)
    policy = build_policy(config, world, household, torch.zeros(shape), torch.ones(shape))
    state, window = world.draw(8, 3, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        observations = world.observe(state, window[0])
        actions, most = policy(observations), 0.0
        for home in range(community.homes):
            moved = observations + torch.rand_like(observations)
            moved[:, home] = observations[:, home]
            most = max(most, float((policy(moved)[:, home] - actions[:, home]).abs().max()))
    return most


def service_record(profile: str) -> tuple[dict[str, float], Path] | None:
    """What notebook 05 measured of the service, and where; None if it was not run.

    Source:
        `thesis_lib.serving.latency.service`: request_p50_ms_at_500, saturation_rps and others.
    """
    file = paths.results(profile) / "latency.json"
    return (json.loads(file.read_text(encoding="utf-8"))["service"], file) if file.is_file() else None
