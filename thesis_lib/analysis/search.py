"""Tune a compared learner on as many minutes as Cooperative MADDPG was tuned on, and write down every trial.

    python -m thesis_lib.analysis.search independent_sac

Optuna proposes settings (TPE, Bergstra et al. 2011), the profile's own first; each is trained with seed 0 in the fast
model on train rows alone and judged as `train` judges: the best composite of the validation weeks that passes the
gate. A trial whose best so far is worse than the median of the others after as many updates is stopped, and so is one
that has used the minutes that a seed's training may take. Each trial is a line of ``results/tuning/<learner>.csv``,
written when it ends, all on the official edition; the same command goes on from there until the budget, in minutes of
CPU, is spent. The last line of output says what to write into the profiles.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import optuna
import pandas as pd
import torch
import yaml
from filelock import FileLock
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from pydantic import BaseModel

from thesis_lib import paths
from thesis_lib.analysis.evaluation import REFERENCE
from thesis_lib.analysis.learner import settings_of
from thesis_lib.community import dataset as datasets
from thesis_lib.community.dataset import DatasetError
from thesis_lib.community.model import Community
from thesis_lib.config import ConfigError, load_config
from thesis_lib.controllers import CONTROLLERS, LEARNERS
from thesis_lib.maddpg.training import TrainingWorld
from thesis_lib.provenance import ensure_writable, git_state, write_csv_atomic

SEED = 0
# Of CPU: the rest of Cooperative MADDPG's budget, see docs/protocol.md.
MINUTES = {"independent_sac": 232, "independent_td3": 212, "maddpg": 203, "marlisa": 232}
TRIAL_MINUTES = 5.0  # of CPU: what the protocol allows a seed's training
# validations: for each, how many times `validate_every` updates were made, and the best composite by then.
COLUMNS = ("trial", "state", "composite", "departures_met", "updates", "minutes", "validations", "settings", "commit")

# What is searched, the same for all where they have the key; MARLISA's returns are of one hour.
EVERYONE = {
    "habits": CategoricalDistribution([True, False]),
    "discount": FloatDistribution(0.8, 0.99),
    "actor_rate": FloatDistribution(1e-6, 1e-3, log=True),
    "critic_rate": FloatDistribution(3e-4, 1e-2, log=True),
    "updates": IntDistribution(2200, 5000, step=200),  # `critic_warmup` of them of the critics alone
    "critic_warmup": IntDistribution(0, 2000, step=250),
    "target_rate": FloatDistribution(3e-3, 0.1, log=True),
    "batch": CategoricalDistribution([64, 128, 256, 512]),
    "replay_capacity": CategoricalDistribution([30_000, 100_000]),
    "copies": CategoricalDistribution([32, 64, 128, 256]),
    "collect_hours": CategoricalDistribution([24, 48, 168]),
    "updates_per_hour": IntDistribution(1, 8, log=True),
    "actor_units": CategoricalDistribution([32, 64, 128]),
    "critic_units": CategoricalDistribution([32, 64, 128]),
}
RETURNS = {"return_hours": IntDistribution(1, 12, log=True)}
OWN_OR_TEAM = {"reward": CategoricalDistribution(["individual", "team"])}
NOISE = {
    "noise": CategoricalDistribution(["gaussian", "ou"]),
    "noise_scale": FloatDistribution(0.05, 0.5, log=True),
}
INDEPENDENT = {"critic_updates": IntDistribution(1, 3)}
ENTROPY = {
    "temperature": FloatDistribution(1e-3, 0.1, log=True),
    "temperature_rate": CategoricalDistribution([0.0, 1e-3]),
    "noise_scale": NOISE["noise_scale"],
}
SEARCHED: dict[str, dict[str, Any]] = {
    "independent_td3": EVERYONE
    | RETURNS
    | OWN_OR_TEAM
    | NOISE
    | INDEPENDENT
    | {"target_noise": FloatDistribution(0.0, 0.3)},
    "independent_sac": EVERYONE | RETURNS | OWN_OR_TEAM | INDEPENDENT | ENTROPY,
    "marlisa": EVERYONE
    | INDEPENDENT
    | ENTROPY
    | {
        "reward": CategoricalDistribution(["marlisa", "individual", "team"]),
        "pca_share": FloatDistribution(0.7, 1.0),
    },
    "maddpg": EVERYONE
    | RETURNS
    | OWN_OR_TEAM
    | NOISE
    | {
        "critics": CategoricalDistribution(["central", "per_agent"]),
        "actor_optimiser": CategoricalDistribution(["adam", "muon"]),
        "reward_offset": FloatDistribution(0.0, 2.0),
    },
}


class Trials:
    """The trials of one learner, as its file holds them, and the study that proposes the next."""

    def __init__(self, learner: str, settings: dict[str, Any]):
        """``settings``: the profile's, which are the first trial."""
        self.path = paths.tuning(learner)
        self.space = SEARCHED[learner]
        self.table = pd.DataFrame(columns=COLUMNS)
        if self.path.is_file():
            self.table = pd.read_csv(self.path, dtype={"validations": str}).fillna({"validations": ""})
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=SEED + len(self.table)),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=8, n_warmup_steps=3),
        )
        for line in self.table.itertuples():
            values = [text.split(":") for text in str(line.validations).split()]
            state = TrialState[str(line.state)]
            self.study.add_trial(
                optuna.trial.create_trial(
                    state=state,
                    value=float(str(line.composite)) if state == TrialState.COMPLETE else None,
                    params=json.loads(str(line.settings)),
                    distributions=self.space,
                    intermediate_values={int(step): float(value) for step, value in values},
                )
            )
        if not len(self.table):
            self.study.enqueue_trial({key: settings[key] for key in self.space})

    @property
    def minutes(self) -> float:
        """Spent so far, of CPU."""
        return float(self.table["minutes"].sum())

    def ask(self) -> optuna.Trial:
        """The next proposal."""
        return self.study.ask(self.space)

    def tell(self, trial: optuna.Trial, state: TrialState, result: dict[str, Any]) -> None:
        """Write a trial down: ``result`` has the columns that the trial does not say itself."""
        self.study.tell(trial, result["composite"] if state == TrialState.COMPLETE else None, state)
        git = git_state()
        line = result | {
            "trial": len(self.table) + 1,
            "state": state.name,
            "settings": json.dumps(trial.params),
            "commit": f"{git['commit'] or 'none'}{' dirty' if git['dirty'] else ''}",
        }
        self.table = pd.concat([self.table, pd.DataFrame([line])[list(COLUMNS)]], ignore_index=True)
        write_csv_atomic(self.path, self.table)

    def best(self) -> pd.Series:
        """The line of the best trial that was not stopped.

        Raises:
            ValueError: none has come to its end.
        """
        whole = self.table[self.table["state"] == TrialState.COMPLETE.name]
        if whole.empty:
            raise ValueError("no trial has come to its end: raise --minutes")
        return whole.loc[whole["composite"].idxmin()]


def attempt(
    kind: Any, config: BaseModel, world: TrainingWorld, trial: optuna.Trial, minutes: float = TRIAL_MINUTES
) -> tuple[TrialState, dict[str, Any]]:
    """Train once as `training.train` does, without checkpoints.

    Args:
        kind: the learner, see `LEARNERS`.
        config: its settings.
        world: what it is trained in.
        trial: is told every validation, and says whether to go on.
        minutes: of CPU after which it is stopped.

    Returns:
        How it ended, and its columns of the table. What never passed the gate has a composite of the last validation
        plus one, so that it is behind whatever did.
    """
    torch.compiler.reset()  # as in a process of its own: after eight kinds of input torch no longer compiles
    begun, state = time.process_time(), TrialState.COMPLETE
    run, best, met, value = kind(config, world, SEED), math.inf, math.nan, math.nan
    validations: dict[int, float] = {}  # by how many times `validate_every` updates were made: the pruner's steps
    try:
        while run.updates < run.config.updates and state == TrialState.COMPLETE:
            mark = run.updates // run.config.validate_every
            run.iterate()
            over = time.process_time() - begun > 60 * minutes
            if run.updates // run.config.validate_every > mark or run.updates == run.config.updates:
                score = world.validate(run.algorithm.target_policy)
                if score["passes"] and score["composite"] < best:
                    best, met = score["composite"], score["departures_met"]
                value = best if best < math.inf else score["composite"] + 1
                step = run.updates // run.config.validate_every
                validations[step] = value
                trial.report(value, step)
                over = over or trial.should_prune()
            if over and run.updates < run.config.updates:
                state = TrialState.PRUNED if validations else TrialState.FAIL
    except FloatingPointError:  # a loss that is not finite: these settings diverge
        state = TrialState.FAIL
    return state, {
        "composite": value,
        "departures_met": met,
        "updates": run.updates,
        "minutes": round((time.process_time() - begun) / 60, 3),
        "validations": " ".join(f"{step}:{value:.5f}" for step, value in validations.items()),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune one compared learner until its minutes are spent.

    Exit status 0, or 1 after a one-line error on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m thesis_lib.analysis.search", description=main.__doc__)
    parser.add_argument("learner", choices=sorted(SEARCHED))
    parser.add_argument(
        "--minutes", type=float, help="budget of CPU, with what its file already holds (default: docs/protocol.md's)"
    )
    parser.add_argument("--profile", default="thesis", help="configs/<profile>.yaml (default: thesis)")
    given = parser.parse_args(arguments)
    budget = MINUTES[given.learner] if given.minutes is None else given.minutes
    try:
        if not 0 <= budget < math.inf:
            raise ConfigError(f"--minutes {budget:g}: 0 or more")
        config = load_config(given.profile)
        torch.set_num_threads(config.threads)
        settings = settings_of(config, "default", given.learner)
        kind = LEARNERS[given.learner]
        env = datasets.load(datasets.find("official"))
        env.reset()
        community = Community.from_citylearn(env).to(torch.device("cpu"), torch.float32)
        ensure_writable(paths.tuning(given.learner).parent)
        with FileLock(paths.tuning(given.learner).with_suffix(".lock")):
            trials = Trials(given.learner, settings)
            while trials.minutes < budget:
                trial = trials.ask()
                chosen = kind.Config(**(settings | trial.params))
                world = kind.world_of(chosen, community, CONTROLLERS[REFERENCE]())
                state, result = attempt(kind, chosen, world, trial)
                trials.tell(trial, state, result)
                print(
                    f"[{given.learner}, {trials.minutes:.0f} of {budget:g} minutes] trial {len(trials.table)}: "
                    f"{state.name.lower()}, composite {result['composite']:.4f} after {result['updates']} updates "
                    f"and {result['minutes']:.1f} minutes; {trial.params}",
                    flush=True,
                )
            best = trials.best()
    except (ConfigError, DatasetError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"# trial {best['trial']} of {len(trials.table)}: {best['composite']:.4f} on the validation weeks")
    print(yaml.safe_dump({"learners": {given.learner: json.loads(best["settings"])}}, sort_keys=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
