"""Tune the rule of `tuned` as a learner is trained: on train weeks, chosen on validation weeks, within its budget.

    python -m thesis_lib.controllers.tuning

Differential evolution (Storn & Price 1997, SciPy's) proposes numbers; each generation is rolled as one batch through
the fast model, every train block begun anew as for the learner's reward. What misses the gate is penalised by how
far it misses it. The best of each generation then goes through the validation weeks, and the best there that passes
the gate on both is written to ``configs/controllers/tuned_rule.yaml`` with its scores.

Shapes: P proposals, W weeks or blocks, B = P * W copies, C chargers.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from scipy.optimize import differential_evolution
from torch import Tensor
from tqdm import tqdm

from thesis_lib.community import dataset as datasets
from thesis_lib.community.dataset import DatasetError
from thesis_lib.community.kpis import WEIGHTS, team_reward
from thesis_lib.community.model import Community
from thesis_lib.community.observations import Observer
from thesis_lib.community.splits import blocks
from thesis_lib.config import Config, ConfigError, load_config
from thesis_lib.controllers import Controller, rules
from thesis_lib.controllers.tuned import TunedRule, settings_file
from thesis_lib.provenance import ensure_writable, git_state, versions, write_text_atomic

GATE = 0.99
LEAD_IN = 24  # hours rolled before each validation week, not counted
TOLERANCE = 0.05  # SOC a departure may lack and still count as met
SCATTER = 0.2  # of the first generation around the present rule, in units of each range
PENALTY = 10.0  # of a share of departures below the gate, in units of the composite
# What is searched, between which numbers, and where the search begins: at the present rule.
SEARCHED = {
    "hidden_hours": (1.0, 12.0, 6.0),
    "pace": (0.3, 3.0, 1.0),
    "car_price": (0.0, 4.0, 0.0),
    "car_sun": (0.0, 1.0, 0.0),
    "store_below": (-1.0, 1.0, 0.0),
    "use_above": (-0.5, 1.5, 0.0),
    "hold": (0.0, 0.9, 0.0),
    "store": (0.2, 1.2, 1.0),
    "use": (0.2, 1.2, 1.0),
    "store_hours": (0.5, 8.0, 0.5),
    "use_hours": (0.5, 16.0, 0.5),
    "least_soc": (0.0, 0.3, 0.2),
    "most_soc": (0.7, 1.0, 0.9),
    "price": (0.0, 4.0, 0.0),
    "carbon": (0.0, 4.0, 0.0),
    "appliance_price": (0.5, 2.0, 2.0),
}


class Weeks(NamedTuple):
    """Windows of one split, all of the same length."""

    starts: Tensor  # (W,) rows, the lead-in included
    hours: int
    lead: int  # hours that do not count


class Scores(NamedTuple):
    """How P proposals did; business as usual has composite 1."""

    composite: np.ndarray  # (P,)
    met: np.ndarray  # (P,) share of the departures that full power meets
    missed: np.ndarray  # (P,) appliance cycles


class Judge:
    """Rolls proposals through the windows of a split: the composite and the gate of `CommunityWorld.validate`."""

    def __init__(self, community: Community, weeks: Weeks) -> None:
        """Rolls business as usual, which is the measure, and full power, which says what can be met."""
        self.community, self.weeks, self.observer = community, weeks, Observer(community)
        ones = dict.fromkeys(WEIGHTS, 1.0)
        usual = self._roll(rules.BusinessAsUsual(), 1, [{term: 1.0} for term in WEIGHTS], ones)[0]
        self.scale = dict(zip(WEIGHTS, usual.mean(1).tolist(), strict=True))
        self.feasible = self._roll(rules.ChargeOnArrival(), 1, [dict(WEIGHTS)], self.scale)[1] == 1

    def __call__(self, controller: Controller, proposals: int = 1) -> Scores:
        """Roll a controller that acts for P proposals side by side, W copies each, in this order."""
        composite, met, missed = self._roll(controller, proposals, [dict(WEIGHTS)], self.scale)
        due = self.feasible.repeat(1, proposals, 1) & (met >= 0)
        served = (due & (met == 1)).sum((0, 2)).view(proposals, -1).sum(1)
        count = due.sum((0, 2)).view(proposals, -1).sum(1)
        share = torch.where(count > 0, served / count.clamp_min(1), 1.0)
        return Scores(
            composite[0].view(proposals, -1).mean(1).double().numpy(),
            share.double().numpy(),
            missed.view(proposals, -1).sum(1).numpy(),
        )

    def _roll(
        self, controller: Controller, proposals: int, weights: list[dict[str, float]], scale: dict[str, float]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Minus the mean reward under each of the weights (n, B); of each hour and charger (hours, B, C) 1 where a car
        left with enough, 0 with too little, -1 where none left; appliance cycles missed (B,)."""
        c, (starts, hours, lead) = self.community, self.weeks
        state = c.reset(proposals * len(starts), starts.repeat(proposals), hours)
        controller.reset(c)
        total, met, held = torch.zeros(len(weights), len(state.row)), [], None
        with torch.inference_mode():
            for hour in range(hours):
                rows = c.read(state.row)
                after, flows = c.step(state, controller.act(self.observer(state, rows)), rows)
                day_start = state.row % c.steps_per_day == 0
                before = state.net.sum(-1), state.day_peak, day_start
                if hour >= lead:
                    for number, each in enumerate(weights):
                        total[number] -= team_reward(flows.net, flows.cost, flows.emissions, *before, scale, each)
                if held is not None:
                    required, soc, connected, left = held
                    leaves = connected & ((rows.connected == 0) | ((left <= 1) & (rows.departure > left)))
                    met.append(torch.where(leaves, (soc >= required - TOLERANCE - 1e-5).float(), -1.0))
                soc = torch.nn.functional.pad(flows.car_soc, (0, 1)).gather(1, rows.car)
                held = rows.required_soc, soc, rows.connected > 0, rows.departure
                state = after
        return total / (hours - lead), torch.stack(met)[lead:], (state.missed_cycle >= 0).sum(1)


def weeks_of(split: str, rows: int) -> Weeks:
    """The windows of a split as the learner has them: train blocks begun anew, validation weeks after a lead-in.

    Args:
        split: "train" or "validation".
        rows: of the data.

    Returns:
        The windows, all as long as the shortest.

    Raises:
        ValueError: for another split; test rows are for nobody here.
    """
    if split not in ("train", "validation"):
        raise ValueError(f"rules are tuned on train and validation, not on {split}")
    found = torch.tensor(blocks(split, rows))
    lead = LEAD_IN if split == "validation" else 0
    return Weeks(found[:, 0] - lead, int((found[:, 1] - found[:, 0]).min()) + lead, lead)


def settings_from(proposals: np.ndarray, fixed: dict[str, float], copies: int) -> dict[str, Tensor]:
    """Proposals (P, n), columns as SEARCHED, and the fixed numbers as settings (P * copies, 1) of `TunedRule`."""
    columns = torch.as_tensor(proposals, dtype=torch.float32).repeat_interleave(copies, 0)
    found = {name: columns[:, number : number + 1] for number, name in enumerate(SEARCHED)}
    return found | {name: torch.full_like(columns[:, :1], value) for name, value in fixed.items()}


def tune(
    community: Community, tolerance: float, *, seed: int, generations: int, population: int, minutes: float
) -> dict[str, Any]:
    """Search, choose and measure.

    Args:
        community: in float32.
        tolerance: SOC below the required one that the rule leaves, the learner's guard_tolerance.
        seed: of the search.
        generations: at most so many after the first.
        population: proposals a generation.
        minutes: of CPU time of this process, after which no generation begins.

    Returns:
        ``settings``, ``scores`` by split of the tuned rule and of the present one, and what the search spent.

    Raises:
        ConfigError: nothing found passes the gate.
    """
    judges = {split: Judge(community, weeks_of(split, community.rows)) for split in ("train", "validation")}
    train, start = judges["train"], time.process_time()
    first, stop = train.weeks.starts.unsqueeze(1), train.weeks.hours
    seen = community.carbon(community.read(first + torch.arange(stop)))
    fixed = {"tolerance": tolerance, "usual_carbon": round(float(seen.mean()), 5)}

    def score(proposals: np.ndarray, judge: Judge) -> Scores:
        settings = settings_from(proposals, fixed, len(judge.weeks.starts))
        return judge(TunedRule(settings), len(proposals))

    evaluated = 0

    def loss(columns: np.ndarray) -> np.ndarray:  # (n, P), as SciPy hands them over
        nonlocal evaluated
        evaluated += columns.shape[1]
        found = score(columns.T, train)
        return found.composite + PENALTY * np.clip(GATE + 0.002 - found.met, 0.0, None) + found.missed

    best: list[np.ndarray] = []
    bar = tqdm(total=generations, desc="generations", file=sys.stderr, mininterval=5.0)

    def note(intermediate_result: Any) -> bool:
        best.append(intermediate_result.x.copy())
        bar.set_postfix_str(f"train composite {intermediate_result.fun:.4f}", refresh=False)
        bar.update()
        return time.process_time() > 60.0 * minutes

    low, high, present = map(np.array, zip(*SEARCHED.values(), strict=True))
    search = differential_evolution(
        loss,
        list(zip(low, high, strict=True)),
        maxiter=generations,
        init=_around(present, low, high, population, seed),
        rng=seed,
        vectorized=True,
        updating="deferred",
        polish=False,
        mutation=(0.3, 0.8),
        recombination=0.8,
        tol=0.0,  # until all proposals score the same
        callback=note,
    )
    bar.close()
    candidates = np.unique(np.round(best, 4), axis=0)
    scores = {split: score(candidates, judge) for split, judge in judges.items()}
    passes = np.all([(s.met >= GATE) & (s.missed == 0) for s in scores.values()], axis=0)
    if not passes.any():
        raise ConfigError("nothing that was found passes the gate: raise --generations or --minutes")
    chosen = int(np.argmin(np.where(passes, scores["validation"].composite, np.inf)))
    values = fixed | dict(zip(SEARCHED, candidates[chosen].tolist(), strict=True))
    present_scores = {split: judge(rules.SpreadCharging()) for split, judge in judges.items()}
    return {
        "settings": values,
        "scores": {
            "tuned_rule": {split: _plain(s, chosen) for split, s in scores.items()},
            "rule": {split: _plain(s, 0) for split, s in present_scores.items()},
        },
        "spent": {
            "cpu_minutes": round(time.process_time() / 60.0, 2),
            "of_which_search": round((time.process_time() - start) / 60.0, 2),
            "generations": len(best),
            "population": population,
            "evaluations": evaluated,
            "candidates": len(candidates),
            "ended": search.message,
        },
    }


def _around(present: np.ndarray, low: np.ndarray, high: np.ndarray, population: int, seed: int) -> np.ndarray:
    """The first generation (P, n): the present rule, and others scattered around it."""
    scattered = present + SCATTER * (high - low) * np.random.default_rng(seed).standard_normal((population, len(low)))
    scattered[0] = present
    return np.clip(scattered, low, high)


def _plain(scores: Scores, number: int) -> dict[str, float]:
    composite, met, missed = (float(values[number]) for values in scores)
    return {"composite": round(composite, 5), "departures_met": round(met, 5), "cycles_missed": int(missed)}


def write(result: dict[str, Any], config: Config, data: datasets.Dataset, seed: int, rows: int) -> None:
    """Write what `tune` found to ``configs/controllers/tuned_rule.yaml``, atomically.

    Raises:
        OSError: it cannot be written.
    """
    made = {
        "profile": config.profile,
        "edition": data.edition,
        "seed": seed,
        "tuned_on": {split: [list(block) for block in blocks(split, rows)] for split in ("train", "validation")},
        "engine": "model, float32; train blocks cut to the shortest and begun anew, validation weeks after 24 hours",
        **{key: result[key] for key in ("scores", "spent")},
        "git": git_state(),
        "versions": versions(),
    }
    header = "# Written by python -m thesis_lib.controllers.tuning; what each number means: controllers/tuned.py\n"
    text = yaml.safe_dump({"settings": result["settings"], "made": made}, sort_keys=False, default_flow_style=None)
    write_text_atomic(settings_file(), header + text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune the rule on train weeks, choose on validation weeks, write the file of `settings_file`.

    Exit status 0, or 1 after a one-line error on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m thesis_lib.controllers.tuning", description=main.__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the search (default: 0)")
    parser.add_argument("--generations", type=int, default=1000, help="at most so many (default: 1000)")
    parser.add_argument("--population", type=int, default=64, help="proposals a generation (default: 64)")
    parser.add_argument("--minutes", type=float, default=239, help="CPU time after which none begins (default: 239)")
    given = parser.parse_args(arguments)
    try:
        if given.generations < 1 or given.population < 5 or given.seed < 0:
            raise ConfigError("--generations must be at least 1, --population at least 5, and --seed 0 or above")
        config = load_config("thesis")  # every profile's rule is tuned for the thesis, on its data alone
        torch.set_num_threads(1)
        data = datasets.find("official")
        ensure_writable(settings_file().parent)
        community = Community.from_citylearn(datasets.load(data))
        result = tune(
            community,
            config.train["guard_tolerance"],
            seed=given.seed,
            generations=given.generations,
            population=given.population,
            minutes=given.minutes,
        )
        write(result, config, data, given.seed, community.rows)
    except (ConfigError, DatasetError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, splits in result["scores"].items():
        for split, values in splits.items():
            print(f"{name} on {split}: " + ", ".join(f"{key} {value}" for key, value in values.items()))
    print(f"{settings_file().name} written after {result['spent']['cpu_minutes']} CPU minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
