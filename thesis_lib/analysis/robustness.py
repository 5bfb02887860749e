"""What is left of the policy where homes drop out or the tariff moves: the ablations' reference, judged there as it is.

    python -m thesis_lib.analysis.robustness --help

A home that drops out does as business as usual for the whole year: it hears nothing, and the others hear nothing of it.
Which ones do is drawn with the seed, so that one of a seed is among its three. Where the tariff moves, every price and
every forecast of one comes so many hours later than in the data, and business as usual pays these prices too.

``results/<profile>/robustness.csv`` is long like kpis.csv and has two columns more: dropped (names of homes), recipe.
Each year is rolled from row 0 in the fast model; the composite is over business as usual under the same tariff. A seed
whose rows are there is not judged again.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from thesis_lib import paths
from thesis_lib.analysis import evaluation, gap, learner, tables
from thesis_lib.analysis.ablations import Family
from thesis_lib.analysis.evaluation import REFERENCE
from thesis_lib.analysis.learner import CONTROLLER, ERRORS
from thesis_lib.community import dataset as datasets
from thesis_lib.community.kpis import Service, evaluate
from thesis_lib.community.model import Community
from thesis_lib.community.reading import Reading, read_environment
from thesis_lib.config import Config, load_config
from thesis_lib.controllers import CONTROLLERS, Controller
from thesis_lib.provenance import ensure_writable, recipe

FILE = "robustness.csv"
COLUMNS = [*evaluation.COLUMNS, "dropped", "recipe"]
KPIS = [tables.COMPOSITE, *tables.SERVICE]
# What a home says of itself: its meters and its devices. Clock, weather and tariff are everybody's.
OWN = re.compile(
    r"non_shiftable_load|solar_generation|net_electricity_consumption|electrical_storage_soc"
    r"|.*_charger_.+|deferrable_appliance_.+"
)


class Trouble(NamedTuple):
    """What befalls the community."""

    homes: int = 0  # that drop out
    hours: int = 0  # by which the tariff is late


VARIANTS = {
    "undisturbed": Trouble(),
    "dropped_1": Trouble(homes=1),
    "dropped_3": Trouble(homes=3),
    "dropped_6": Trouble(homes=6),
    "tariff_3": Trouble(hours=3),
    "tariff_6": Trouble(hours=6),
    "tariff_12": Trouble(hours=12),
}
FAMILY = Family("robustness", "undisturbed", tuple(VARIANTS)[1:])


class DroppedOut:
    """A policy without some of its homes: those do as the rule does, and the others hear nothing of them."""

    def __init__(self, policy: Controller, rule: Controller, homes: Sequence[int]) -> None:
        """``homes``: places of those that drop out."""
        self.policy, self.rule, self.homes = policy, rule, list(homes)

    def reset(self, community: Community) -> None:
        """Begin an episode."""
        self.policy.reset(community)
        self.rule.reset(community)
        names = community.observation_names
        self.silent = torch.zeros(len(names), max(map(len, names)), dtype=torch.bool, device=community.device)
        for home in self.homes:
            own = [bool(OWN.fullmatch(name)) for name in names[home]]
            self.silent[home, : len(own)] = torch.tensor(own, device=community.device)

    def act(self, observations: Tensor) -> Tensor:
        """Observations (B, H, O) to actions (B, H, S)."""
        actions = self.policy.act(observations.masked_fill(self.silent, 0.0))
        actions[:, self.homes] = self.rule.act(observations)[:, self.homes].to(actions)
        return actions


def late_tariff(reading: Reading, hours: int) -> Reading:
    """The same community, with every price and every forecast of one so many hours later; the last hours come first."""
    names = {column for (_, name), (_, column) in reading.exogenous.items() if name.startswith("electricity_pricing")}
    prices = sorted({*names, *reading.price_column.tolist()})
    market = reading.blocks["market"].copy()
    market[:, prices] = np.roll(market[:, prices], hours, axis=0)
    return replace(reading, blocks=reading.blocks | {"market": market})


def dropped(homes: int, seed: int, names: Sequence[str]) -> list[int]:
    """Places of the homes that drop out with a seed, in the order in which they were drawn."""
    return torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))[:homes].tolist()


def measure(
    config: Config, seed: int, data: datasets.Dataset, end: int | None = None, say: Callable[[str], None] = print
) -> pd.DataFrame:
    """Judge one seed of the profile's first variant in every trouble; it is trained first if it has no checkpoint.

    Args:
        config: the profile.
        seed: of the training, and of the homes that drop out.
        data: the edition.
        end: last row; None for the year.
        say: takes a line per validation and per trouble.

    Returns:
        Its rows, columns COLUMNS; only read if they are there.

    Raises:
        ConfigError, EvaluationError, CheckpointError, DeviceError, SystemExit: as `learner.learn`.
        OSError: results cannot be written.
    """
    file, made_from = ensure_writable(paths.results(config.profile)) / FILE, recipe_of(config, seed, data, end)
    found = read(config.profile)
    found = found[(found.seed == seed) & (found.recipe == made_from)]
    if len(found):
        say("its rows are there")
        return found
    if config.train_for(_variant(config))["compile"]:
        learner.find_compiler(config.device)
    policy, _, _ = learner.trained(config, _variant(config), seed, data, say=say)
    env = datasets.load(data, end=end)
    env.reset()
    reading, service = read_environment(env), Service.from_citylearn(env)
    usual = CONTROLLERS[REFERENCE]()
    parts, references = [], {}  # references: hours -> rows of business as usual
    for variant, trouble in VARIANTS.items():
        community = Community(late_tariff(reading, trouble.hours), dtype=torch.float64)
        if trouble.hours not in references:
            run = evaluation.simulate(community, usual)
            references[trouble.hours] = evaluate(run, service)
        gone = dropped(trouble.homes, seed, community.home_names)
        run = evaluation.simulate(community, DroppedOut(policy, usual, gone))
        table = evaluate(run, service, references[trouble.hours])
        identity = {"edition": data.edition, "controller": CONTROLLER, "variant": variant, "seed": seed}
        names = " ".join(community.home_names[home] for home in gone)
        table = table[table.kpi.isin(KPIS)].assign(**identity, engine="model", dropped=names, recipe=made_from)
        parts.append(table[COLUMNS])
        year = table[table.split == "year"].set_index("kpi").value
        say(f"{variant}: composite {year[KPIS[0]]:.4f}, departures met {year[KPIS[1]]:.4f} in the whole run")
    rows = pd.concat(parts, ignore_index=True)
    gap.keep(file, rows, ["variant", "seed", "edition"], list(VARIANTS))
    return rows


def _variant(config: Config) -> str:
    return next(iter(config.variants))


def recipe_of(config: Config, seed: int, data: datasets.Dataset, end: int | None = None) -> str:
    """Digest of all that the rows of one seed come from, see `provenance.recipe`."""
    troubles = {name: trouble._asdict() for name, trouble in VARIANTS.items()}
    about = {"troubles": troubles, "train": config.train_for(_variant(config)), "seed": seed, "end": end}
    own = [paths.LIBRARY / "controllers/rules.py", Path(__file__)]
    files = [*(paths.LIBRARY / "community").glob("*.py"), *learner.code(), *own]
    return recipe(about | {"checksums": dict(data.checksums)}, files)


def read(profile: str) -> pd.DataFrame:
    """The rows of robustness.csv, columns COLUMNS; none if there is no such file yet."""
    file = paths.results(profile) / FILE
    if not file.is_file():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(file, dtype={"unit": str, "dropped": str}).fillna({"dropped": ""})


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge seeds in every trouble, those that are there apart.

    Exit status 0, or 1 after a one-line error on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m thesis_lib.analysis.robustness", description=main.__doc__)
    parser.add_argument("--profile", default="ablations", help="configs/<profile>.yaml (default: ablations)")
    parser.add_argument("--edition", choices=datasets.EDITIONS, help="default: the profile's")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: those of the profile")
    given = parser.parse_args(arguments)
    try:
        config = load_config(given.profile)
        data = datasets.find(given.edition or config.edition)
        torch.set_num_threads(config.threads)
        for seed in given.seeds or config.seeds:
            measure(config, seed, data, say=partial(print, f"[seed {seed}]", file=sys.stderr, flush=True))
    except ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
