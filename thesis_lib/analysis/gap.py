"""Where the distance to the optimum lies: the same learner, given what the real one may not have.

    python -m thesis_lib.analysis.gap --help

Each variant lifts one restriction: generalisation (it trains on the weeks it is judged on), information (exact
forecasts of the next day, all and one kind at a time; a memory of the last day, which any home could have),
decentralised execution (every home sees every home), the networks' size, the budget; the last one lifts all but the
memory, which forecasts make needless. None of them is reported as a result.

``results/<profile>/gap.csv``: variant, seed, split, composite (over business as usual, on the blocks of the split that
`PrivilegedWorld.judge` takes, each begun anew, in the fast model), departures_met, training_seconds (CPU time of the
process that ended the training, in s: neither of processes it started nor of one whose checkpoint it went on from). A
run that is there is not made again. ``gap_figures`` shows them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from filelock import FileLock
from torch import Tensor

from thesis_lib import paths
from thesis_lib.analysis.learner import ERRORS, code
from thesis_lib.community import dataset as datasets
from thesis_lib.community.model import Community, Flows, Rows, State
from thesis_lib.community.splits import SPLITS, blocks
from thesis_lib.config import Config, load_config
from thesis_lib.controllers import CONTROLLERS, Controller
from thesis_lib.maddpg.networks import Policy
from thesis_lib.maddpg.training import (
    CommunityWorld,
    TrainConfig,
    build_policy,
    read_checkpoint,
    train,
)
from thesis_lib.provenance import recipe, write_csv_atomic

FILE = "gap.csv"
COLUMNS = ["variant", "seed", "split", "composite", "departures_met", "training_seconds", "recipe"]
# What can be forecast, by its name as an observation: a home's own load - PV, the district's, the price, the carbon
# intensity. What begins like an observation that all homes share is read once by the critic.
FORECASTS = ("net_ahead", "direct_district_ahead", "electricity_pricing_ahead", "carbon_ahead")
# What can be remembered: a home's own load - PV and, where an aggregator has told it, the district's.
MEMORIES = ("net_past", "direct_district_past")
# Hours ahead, first and one past the last, over which the exact forecasts are averaged; hours back, the memories.
AHEAD = ((1, 2), (2, 3), (3, 4), (4, 7), (7, 10), (10, 13), (13, 19), (19, 25))
DAY = AHEAD[-1][1] - 1
WIDE = {"actor_units": 256, "critic_units": 256}


class Privilege(NamedTuple):
    """What a variant is given that the learner has not."""

    train_split: str = "train"  # whose weeks it trains on
    forecasts: tuple[str, ...] = ()  # of FORECASTS, exact ones of the next 24 hours
    memory: bool = False  # of the last 24 hours, in place of forecasts
    central: bool = False  # every home sees every home
    settings: dict[str, Any] = {}  # of the learner, in place of the profile's
    longer: int = 1  # times the updates


VARIANTS = {
    "headline": Privilege(),
    "test_weeks": Privilege(train_split="test"),
    "forecasts": Privilege(forecasts=FORECASTS),
    "own_ahead": Privilege(forecasts=FORECASTS[:1]),
    "district_ahead": Privilege(forecasts=FORECASTS[1:2]),
    "price_ahead": Privilege(forecasts=FORECASTS[2:]),
    "memory": Privilege(memory=True),
    "central": Privilege(central=True),
    "wide": Privilege(settings=WIDE),
    "longer": Privilege(longer=2),
    "everything": Privilege("test", FORECASTS, central=True, settings=WIDE, longer=2),
}


class Hour(NamedTuple):
    """An hour of a window: its own data, and what is foreseen and remembered in it, (B, H, kinds * len(AHEAD))."""

    rows: Rows
    told: Tensor


class PrivilegedWorld(CommunityWorld):
    """The world of training, with a variant's privileges.

    What a home is told besides its own observation stands behind it: the means over AHEAD of its own net (load - PV),
    the district's, price and carbon; over as many hours back its own net and the district's; and of every home load,
    PV, battery, net and cars.
    """

    def __init__(self, community: Community, reference: Controller, privilege: Privilege, config: TrainConfig):
        self.privilege = privilege
        self.kinds = MEMORIES if privilege.memory else privilege.forecasts
        self.before, self.after = DAY * privilege.memory, DAY * bool(privilege.forecasts)
        names = community.observation_names
        self.width = max(map(len, names))
        wanted = ("non_shiftable_load", "solar_generation", "electrical_storage_soc", "net_electricity_consumption")
        car = ("_connected_state", "_departure_time", "_required_soc_departure", "_soc")
        self.view = [
            (home, column)
            for home, row in enumerate(names)
            for column, name in enumerate(row)
            if name in wanted or (name.endswith(car) and "charger" in name and "arrival" not in name)
        ]
        own = {"augment", "swap_share", "reward_offset", "reward", "weights"}
        super().__init__(community, reference, **config.model_dump(include=own))
        if privilege.train_split != "train":
            self.train_blocks = self._blocks(privilege.train_split)
        told = [[f"{kind}_{first}" for kind in self.kinds for first, _ in AHEAD] for _ in names]
        if privilege.central:
            told = [row + [f"direct_view_{home}_{column}" for home, column in self.view] for row in told]
        if told[0]:
            padded = [row + ["no_observation"] * (self.width - len(row)) for row in names]
            self.observation_names = [row + more for row, more in zip(padded, told, strict=True)]

    def _blocks(self, split: str) -> Tensor:
        """First row and one past the last of each block; the data's last row has no action."""
        return torch.tensor(blocks(split, self.community.rows)).clamp(max=self.community.rows - 1)

    def draw(self, batch: int, hours: int, generator: torch.Generator) -> tuple[State, list[Any]]:
        """See `CommunityWorld.draw`; forecasts and memories look into the rest of the same train block."""
        state, window = super().draw(batch, self.before + hours + self.after, generator)
        told = self._told(window)
        if self.before:
            state = self._begun_at(window[self.before], state._replace(row=state.row + self.before))
        return state, [Hour(*hour) for hour in zip(window[self.before : self.before + hours + 1], told, strict=True)]

    def _begun_at(self, rows: Rows, state: State) -> State:
        """A drawn state as if its window began in the hour of ``rows``: its cars can still be charged in time."""
        c = self.community
        state = state._replace(net=rows.load - rows.pv, next_cycle=rows.alive)
        connected, gain = self.margin_guard.margins(self.observer(state, rows))
        due = (connected * gain.clamp(min=0.0)).to(c.dtype)
        batteries, cars = state.soc[:, : c.homes], state.soc[:, c.homes :]
        lift = torch.zeros_like(cars).index_add(1, c.charger_car[c.charger_slot >= 0], due)
        soc = torch.cat([batteries, (cars + lift).clamp(max=1.0)], 1)
        return state._replace(soc=soc, soc_before=soc)

    def _told(self, window: Sequence[Rows]) -> list[Tensor]:
        """What is foreseen and remembered in each hour that has the days it takes around it in the window."""
        hours = range(self.before, len(window) - self.after)
        if not self.kinds:
            return [window[0].load[..., None, :0]] * len(hours)
        c = self.community
        own = torch.stack([rows.load - rows.pv for rows in window])  # (T, B, H)
        shared = [torch.stack([of(rows)[..., :1] for rows in window]) for of in (c.price, c.carbon)]
        district = own.sum(-1, keepdim=True).expand_as(own)
        series = dict(zip(FORECASTS, (own, district, *(values.expand_as(own) for values in shared)), strict=True))
        series |= dict(zip(MEMORIES, (own, district), strict=True))
        sums = torch.stack([series[kind] for kind in self.kinds], -1).cumsum(0)  # (T, B, H, kinds)
        sums = torch.cat([torch.zeros_like(sums[:1]), sums])  # of the hours before each
        told = []
        for now in hours:
            spans = [(now + first, now + stop) for first, stop in AHEAD]
            if self.before:
                spans = [(now + 1 - stop, now + 1 - first) for first, stop in AHEAD]
            means = [(sums[stop] - sums[first]) / (stop - first) for first, stop in spans]
            told.append(torch.stack(means, -1).flatten(-2))
        return told

    def observe(self, state: State, hour: Any) -> Tensor:
        """Own observation, then what else the home is told: (B, H, O)."""
        seen = super().observe(state, hour.rows)
        parts = [seen]
        if self.kinds:
            parts.append(hour.told)
        if self.privilege.central:
            columns = [home * self.width + column for home, column in self.view]
            view = seen.detach().flatten(1)[:, columns]
            parts.append(view.unsqueeze(1).expand(-1, seen.shape[1], -1))
        return torch.cat(parts, 2) if len(parts) > 1 else seen

    def step(self, state: State, actions: Tensor, hour: Any) -> tuple[State, Tensor]:
        """See `CommunityWorld.step`."""
        return super().step(state, actions, hour.rows)

    def _run(self, controller: Any, starts: Tensor, hours: int) -> Iterator[tuple[State, Rows, Flows, State]]:
        """As the parent's, with what a home is told."""
        c = self.community
        state = c.reset(len(starts), starts.to(self.device), hours)
        controller.reset(c)
        with torch.no_grad():
            for _ in range(hours):
                around = range(-self.before, self.after + 1)
                days = [c.read((state.row + hour).clamp(0, c.rows - 1)) for hour in around]
                rows = days[self.before]
                seen = self.observe(state, Hour(rows, self._told(days)[0]))
                after, flows = c.step(state, controller.act(seen), rows)
                yield state, rows, flows, after
                state = after

    def judge(self, policy: Policy, split: str) -> dict[str, float]:
        """`validate`, on the blocks of ``split`` that have a day before them, all cut to the length of the shortest.

        Validation: its twelve weeks. Test: its twelve weeks, each without its last hour, since the data's last row has
        no action. Train: the first 336 h of eleven blocks of up to 408 h; the twelfth starts at row 0.
        """
        weeks = self._blocks(split)
        weeks = weeks[weeks[:, 0] >= self.LEAD_IN]
        self.validation_starts = weeks[:, 0] - self.LEAD_IN
        self.validation_hours = int((weeks[:, 1] - weeks[:, 0]).min()) + self.LEAD_IN
        reference = CONTROLLERS["business_as_usual"]()
        self.validation_scale = self._mean_terms(reference, self.validation_starts, self.validation_hours, self.LEAD_IN)
        self.feasible = self._departures_met(CONTROLLERS["charge_on_arrival"]())  # what that misses cannot be met
        return self.validate(policy)


def measure(config: Config, variant: str, seed: int, data: datasets.Dataset, say: Any = print) -> pd.DataFrame:
    """Train a variant and judge its last policy on every split; only read it if it is there.

    Args:
        config: the profile, whose first variant's settings are the headline's.
        variant: one of VARIANTS.
        seed: of weights and windows.
        data: the edition.
        say: takes one line per validation.

    Returns:
        Its three rows, columns COLUMNS.

    Raises:
        CheckpointError, SystemExit: as `train`.
        OSError: results cannot be written.
    """
    privilege = VARIANTS[variant]
    train_config, made_from = TrainConfig(**_settings(config, privilege)), recipe_of(config, variant, seed, data)
    file = paths.results(config.profile) / FILE
    found = read(config.profile)
    found = found[(found.variant == variant) & (found.seed == seed) & (found.recipe == made_from)]
    if len(found) == len(SPLITS):
        say(f"{variant}, seed {seed}: its rows are there")
        return found

    env = datasets.load(data)
    env.reset()
    community = Community.from_citylearn(env)
    world = PrivilegedWorld(community, CONTROLLERS["business_as_usual"](), privilege, train_config)
    folder = paths.checkpoints(config.profile, data.edition, "gap", f"{variant}_{made_from[:8]}", seed)
    torch.compiler.reset()  # each as in a process of its own: after eight kinds of input torch no longer compiles
    begun = time.process_time()
    train(train_config, world, folder, seed=seed, say=say)
    seconds = time.process_time() - begun
    saved = read_checkpoint(folder / "last.pt", world.fingerprint)
    policy = untrained(train_config, world, saved)
    policy.load_state_dict(saved["algorithm"]["target_policy"])
    judged = {split: world.judge(policy.eval(), split) for split in SPLITS}
    rows = pd.DataFrame(
        [
            (variant, seed, split, score["composite"], score["departures_met"], round(seconds, 1), made_from)
            for split, score in judged.items()
        ],
        columns=COLUMNS,
    )
    keep(file, rows, ["variant", "seed"], list(VARIANTS))
    return rows


def _settings(config: Config, privilege: Privilege) -> dict[str, Any]:
    """The learner's settings, those of the profile's first variant but for what the privilege changes."""
    settings = config.train_for(next(iter(config.variants))) | privilege.settings
    return settings | {name: privilege.longer * settings[name] for name in ("updates", "validate_every", "minutes")}


def recipe_of(config: Config, variant: str, seed: int, data: datasets.Dataset) -> str:
    """Digest of all that a variant's rows of one seed come from, see `provenance.recipe`."""
    privilege = VARIANTS[variant]
    train_settings = _settings(config, privilege)
    about = {"privilege": privilege._asdict(), "train": train_settings, "seed": seed, "checksums": dict(data.checksums)}
    return recipe(about, sources())


def sources() -> list[Path]:
    """The files that the rows depend on: those of a learner, its reference's and this one."""
    own = [paths.LIBRARY / "controllers/rules.py", paths.LIBRARY / "analysis/gap.py"]
    return [*(paths.LIBRARY / "community").glob("*.py"), *code(), *own]


def keep(file: Path, rows: pd.DataFrame, key: Sequence[str], order: Sequence[Any]) -> None:
    """Put rows into a CSV in place of those of the same key; processes that write the same file wait for each other.

    Args:
        file: the CSV; need not be there.
        rows: new ones, all its columns.
        key: names of columns, by which the file is sorted.
        order: of the first one's values.

    Raises:
        OSError: the file cannot be written.
    """
    places = {value: place for place, value in enumerate(order)}
    with FileLock(f"{file}.lock"):
        found = pd.read_csv(file) if file.is_file() else rows[:0]
        others = found[~found.set_index(list(key)).index.isin(rows.set_index(list(key)).index)]
        every = pd.concat([others, rows]) if len(others) else rows
        in_order = every.sort_values(list(key), key=lambda c: c.map(places) if c.name == key[0] else c, kind="stable")
        write_csv_atomic(file, in_order)


def untrained(config: TrainConfig, world: PrivilegedWorld, saved: Mapping[str, Any]) -> Policy:
    """The policy of a checkpoint of this world, with its normaliser and guard and fresh weights."""
    weights = saved["algorithm"]["policy"]
    mean, scale = weights["features.mean"], weights["features.scale"]
    deviation = torch.where(scale > 0, 1 / scale.clamp(min=1e-6), 0.0)
    return build_policy(config, world, world.make_household(saved["guard_settings"]), mean, deviation)


def read(profile: str) -> pd.DataFrame:
    """The rows of gap.csv, columns COLUMNS; none if there is no such file yet."""
    file = paths.results(profile) / FILE
    return pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=COLUMNS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and judge the variants, those that are there apart.

    Exit status 0, or 1 after a one-line error on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m thesis_lib.analysis.gap", description=main.__doc__)
    parser.add_argument("--profile", default="ablations", help="configs/<profile>.yaml (default: ablations)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="default: all")
    given = parser.parse_args(arguments)
    try:
        config = load_config(given.profile)
        data = datasets.find(config.edition)
        torch.set_num_threads(config.threads)
        for seed in given.seeds:
            for variant in given.variants:
                say = partial(print, f"[{variant}, seed {seed}]", file=sys.stderr, flush=True)
                print(measure(config, variant, seed, data, say).drop(columns="recipe").to_string(index=False))
    except ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
