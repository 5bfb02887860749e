"""Speed of training: Cooperative MADDPG against 17 separate actor-critic pairs on CityLearn, same run, same cores.

    python benchmarks/training.py [--json] [--output FILE] [--quick] [--profile thesis] [--variant broadcast]

A community-step is one hour of the whole community that a learner learns from.

The usual way is MADDPG (Lowe et al. 2017) as it is commonly written for CityLearn: a list of agents, each with its own
actor and central critic (two hidden layers of 256 units), their targets and two Adams; after every step of CityLearn
each agent makes one update from a replay memory, batch 256. Where implementations differ the quicker way is taken: all
agents share one batch, so that the target actions are computed once, and the critic's weights get no gradient in the
actor's update.

Ours makes one update after another, each through ``batch`` copies of the community rolled ``rollout_horizon`` hours.
An update of ours learns from thousands of steps at once where the usual way makes one update of each agent per step:
steps/s says how fast experience is made and learned from; the minutes to the rule's level say what comes of it. They
are those of actors without habits, which know nothing of what a household does, on one core. The usual way gets
``--usual-minutes`` for the same, also on one core: it goes through the year hour by hour, the validation weeks
included, and its actors are validated after each ``--usual-every`` hours as ours are.

Both run as ``make thesis`` does, one process for each core with one thread, and their steps/s add up; the usual way
also in one process with all the threads, and the better of the two is compared. ``compiled`` needs a C++ compiler.

With ``--device cuda`` ours is trained on the GPU, by one process: some updates, with the profile's batch and a larger
one, and one seed's whole training with the larger in place of the minutes to the rule's level. Beside it the usual way
has one process for each core alone; in one with all threads it was the slower of the two wherever it was measured.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from thesis_lib.analysis.learner import repeatable, run_on
from thesis_lib.community import dataset
from thesis_lib.community.model import Community
from thesis_lib.config import ConfigError, load_config
from thesis_lib.controllers import Controller
from thesis_lib.controllers.rules import BusinessAsUsual, SpreadCharging
from thesis_lib.maddpg import device as devices
from thesis_lib.maddpg.captured import FIRST
from thesis_lib.maddpg.training import CommunityWorld, Run, TrainConfig, train
from thesis_lib.provenance import run_record, write_json_atomic

UNITS, BATCH, MEMORY = 256, 256, 100_000
LARGER = 16  # times the profile's batch, on a GPU
RATE, DISCOUNT, TARGET_RATE, NOISE = 1e-3, 0.99, 0.005, 0.1


# --- the usual way ---


def network(into: int, units: int, out: int, *last: nn.Module) -> nn.Sequential:
    """Two hidden layers of ``units``."""
    return nn.Sequential(
        nn.Linear(into, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, out), *last
    )


class Agent:
    """One home: its actor, its critic of everything seen and done in the community, their targets and optimisers."""

    def __init__(self, observations: int, actions: int, everything: int, units: int):
        self.actor = network(observations, units, actions, nn.Tanh())
        self.critic = network(everything, units, 1)
        self.target_actor, self.target_critic = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.actor_optimiser = torch.optim.Adam(self.actor.parameters(), lr=RATE)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), lr=RATE)


class UsualMADDPG:
    """The loop over agents, on CityLearn itself."""

    def __init__(self, env: Any, batch: int = BATCH, units: int = UNITS):
        self.env, self.batch = env, batch
        self.seen = [space.shape[0] for space in env.observation_space]
        self.done = [space.shape[0] for space in env.action_space]
        self.action_low, self.action_high = (
            np.concatenate([getattr(space, bound) for space in env.action_space]) for bound in ("low", "high")
        )
        low, high = (
            np.concatenate([getattr(space, bound) for space in env.observation_space]) for bound in ("low", "high")
        )
        self.low, self.range = low, np.where(high > low, high - low, 1.0)
        everything = sum(self.seen) + sum(self.done)
        self.agents = [Agent(o, a, everything, units) for o, a in zip(self.seen, self.done, strict=True)]
        self.memory: deque[tuple[np.ndarray, ...]] = deque(maxlen=MEMORY)
        self.observations = self.normalised(env.reset()[0])
        self.seconds = {"environment": 0.0, "learning": 0.0}

    def normalised(self, lists: list[list[float]]) -> np.ndarray:
        """All homes' observations in one row, each between 0 and 1."""
        return ((np.concatenate(lists) - self.low) / self.range).astype(np.float32)

    def act(self) -> np.ndarray:
        """What the actors do, with noise, within bounds."""
        own = torch.from_numpy(self.observations).split(self.seen)
        with torch.no_grad():
            actions = torch.cat([agent.actor(seen) for agent, seen in zip(self.agents, own, strict=True)]).numpy()
        noisy = actions + NOISE * np.random.standard_normal(len(actions))
        return np.clip(noisy, self.action_low, self.action_high).astype(np.float32)

    def step(self, learn: bool = True) -> None:
        """Act for one hour, remember it, and with ``learn`` update every agent once."""
        actions = self.act()
        lists = [part.tolist() for part in np.split(actions, np.cumsum(self.done)[:-1])]
        begun = time.perf_counter()
        seen, rewards, terminated, truncated, _ = self.env.step(lists)
        self.seconds["environment"] += time.perf_counter() - begun
        following = self.normalised(seen)
        self.memory.append((self.observations, actions, np.asarray(rewards, np.float32), following))
        self.observations = self.normalised(self.env.reset()[0]) if terminated or truncated else following
        if learn:
            begun = time.perf_counter()
            self.update()
            self.seconds["learning"] += time.perf_counter() - begun

    def update(self) -> None:
        """One update of each agent's critic, actor and targets."""
        columns = zip(*random.sample(self.memory, self.batch), strict=True)
        seen, done, rewards, following = (torch.from_numpy(np.stack(column)) for column in columns)
        own, acted = seen.split(self.seen, 1), done.split(self.done, 1)
        with torch.no_grad():
            parts = zip(self.agents, following.split(self.seen, 1), strict=True)
            after = torch.cat([following, *(agent.target_actor(part) for agent, part in parts)], 1)
        before = torch.cat([seen, done], 1)
        for number, agent in enumerate(self.agents):
            with torch.no_grad():
                target = rewards[:, number : number + 1] + DISCOUNT * agent.target_critic(after)
            descend(agent.critic_optimiser, nn.functional.mse_loss(agent.critic(before), target))
            # Its own action is the actor's, those of the others are the replayed ones.
            actions = [agent.actor(own[number]) if n == number else a for n, a in enumerate(acted)]
            agent.critic.requires_grad_(False)
            descend(agent.actor_optimiser, -agent.critic(torch.cat([seen, *actions], 1)).mean())
            agent.critic.requires_grad_(True)
            for slow, fast in ((agent.target_actor, agent.actor), (agent.target_critic, agent.critic)):
                with torch.no_grad():
                    for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
                        old.lerp_(new, TARGET_RATE)


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down the gradient of ``loss``."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


# --- measuring ---

_start: Any = None  # in a worker: where it waits until all the others are ready too


def at_once(processes: int, work: Callable[..., dict[str, float]], *arguments: Any) -> list[dict[str, float]]:
    """``work`` with seeds 0, 1, ... in so many fresh processes that begin to measure together."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, _wait_at, (start,)) as pool:
        pending = [pool.submit(work, seed, *arguments) for seed in range(processes)]
        return [done.result() for done in pending]


def _wait_at(start: Barrier) -> None:
    global _start
    _start = start


def repeated(action: Callable[[], None], seconds: float) -> tuple[int, float]:
    """Repeat ``action`` for at least so many seconds, from when every process is ready: how often, and how long."""
    _start.wait(timeout=1800)
    times, begun = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < seconds or not times:
        action()
        times += 1
    return times, elapsed


def measure_usual(seed: int, source: dataset.Dataset, threads: int, seconds: float) -> dict[str, float]:
    """The usual way, once its memory holds a batch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    usual = UsualMADDPG(dataset.load(source))
    for _ in range(usual.batch):
        usual.step(learn=False)
    usual.step()
    usual.seconds = dict.fromkeys(usual.seconds, 0.0)
    steps, elapsed = repeated(usual.step, seconds)
    shares = {f"{what} %": round(100 * spent / elapsed) for what, spent in usual.seconds.items()}
    return {"steps/s": steps / elapsed, "updates/s": steps * len(usual.agents) / elapsed, **shares}


def begin(
    seed: int, source: dataset.Dataset, config: TrainConfig, cache: str, device: str
) -> tuple[Run, CommunityWorld]:
    """A training run at update 0, on one thread; what it compiles goes to a new folder in ``cache``.

    On a GPU to ``cache`` itself: there one process works at a time, and a whole training finds what its updates took.
    """
    torch.set_num_threads(1)
    repeatable(device)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(dir=cache) if device == "cpu" else cache
    community = Community.from_citylearn(dataset.load(source)).to(device, torch.float32)
    shared = ("augment", "swap_share", "reward_offset", "reward", "weights")
    world = CommunityWorld(community, BusinessAsUsual(), **{name: getattr(config, name) for name in shared})
    return run_on(device)(config, world, seed), world


def measure_ours(
    seed: int, source: dataset.Dataset, config: TrainConfig, cache: str, seconds: float, device: str = "cpu"
) -> dict[str, float]:
    """Our updates, without the first ones, which compile; on a GPU with the most memory that they held there."""
    run, _ = begin(seed, source, config, cache, device)
    begun = time.perf_counter()
    run.iterate()
    first = time.perf_counter() - begun
    for _ in range(1 if device == "cpu" else FIRST):  # the last is recorded
        run.iterate()
    updates, elapsed = repeated(run.iterate, seconds)
    steps = updates * config.batch * config.rollout_horizon
    held = {} if device == "cpu" else {"GPU GiB": torch.cuda.max_memory_allocated() / 2**30}
    return {
        "copies": config.batch,
        "steps/s": steps / elapsed,
        "updates/s": updates / elapsed,
        "compilation s": first - elapsed / updates,
        **held,
    }


class AsPolicy:
    """A rule in the place of a policy, to be validated like one."""

    def __init__(self, rule: Controller, community: Community):
        self.rule, self.community = rule, community

    def reset(self) -> None:
        """Begin anew."""
        self.rule.reset(self.community)

    def __call__(self, observations: Tensor) -> Tensor:
        """Observations (B, H, O) to actions (B, H, S)."""
        return self.rule.act(observations)


def measure_level(seed: int, source: dataset.Dataset, config: TrainConfig, cache: str, every: int) -> dict[str, float]:
    """Train until the policy serves every car and appliance and its validation composite is no worse than the rule's.

    Trains without ``habits``: with them the policy may be better than the rule before it has learned anything. Its
    composite at that moment is in the result as ``untrained``. Validates after each ``every`` updates and gives up at
    the end of the config's budget: then there are no minutes.
    """
    run, world = begin(seed, source, config, cache, "cpu")
    level = world.validate(AsPolicy(SpreadCharging(), world.community))["composite"]  # type: ignore[arg-type]
    result = {"rule": level, "untrained": world.validate(run.algorithm.policy)["composite"]}
    run = Run(config.model_copy(update={"habits": False}), world, seed)
    begun, laps = time.perf_counter(), []
    while run.updates < config.updates and time.perf_counter() - begun < 60 * config.minutes:
        lap = time.perf_counter()
        run.iterate()
        laps.append(time.perf_counter() - lap)
        if run.updates % every == 0:
            score = world.validate(run.algorithm.policy)
            result |= {"composite": score["composite"], "updates": run.updates}
            if score["passes"] and score["composite"] <= level:
                minutes = (time.perf_counter() - begun) / 60
                compilation = (laps[0] - statistics.median(laps)) / 60
                return result | {"minutes": minutes, "compilation": compilation}
    return result


class UsualPolicy:
    """The usual way's actors in the place of a policy, without their noise."""

    def __init__(self, usual: UsualMADDPG, slots: int):
        self.usual, self.slots = usual, slots
        self.low, self.range = (torch.from_numpy(part).split(usual.seen) for part in (usual.low, usual.range))
        self.bounds = [torch.from_numpy(part).split(usual.done) for part in (usual.action_low, usual.action_high)]

    def reset(self) -> None:
        """Actors remember nothing."""

    @torch.no_grad()
    def __call__(self, observations: Tensor) -> Tensor:
        """Observations (B, H, O) to actions (B, H, S)."""
        actions = observations.new_zeros(*observations.shape[:2], self.slots)
        for home, agent in enumerate(self.usual.agents):
            own = (observations[:, home, : self.usual.seen[home]] - self.low[home]) / self.range[home]
            low, high = (bound[home] for bound in self.bounds)
            actions[:, home, : self.usual.done[home]] = agent.actor(own.float()).clamp(low, high)
        return actions


def measure_usual_level(
    seed: int, source: dataset.Dataset, config: TrainConfig, cache: str, every: int, minutes: float
) -> dict[str, float]:
    """The usual way until its actors are where `measure_level` stops, or so many minutes are over.

    Validates after each ``every`` hours. Without ``minutes`` in the result the level was not reached; ``lowest`` is the
    best composite on the way, whatever was served for it.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    _, world = begin(seed, source, config, cache, "cpu")
    level = world.validate(AsPolicy(SpreadCharging(), world.community))["composite"]  # type: ignore[arg-type]
    usual = UsualMADDPG(dataset.load(source))
    policy = UsualPolicy(usual, world.community.slots)
    result = {"rule": level}
    steps, begun = 0, time.perf_counter()
    while (spent := (time.perf_counter() - begun) / 60) < minutes:
        usual.step(learn=steps >= usual.batch)
        steps += 1
        if steps % every == 0:
            score = world.validate(policy)  # type: ignore[arg-type]
            spent = (time.perf_counter() - begun) / 60
            result |= {"composite": score["composite"], "departures_met": score["departures_met"], "steps": steps}
            result["lowest"] = min(result.get("lowest", math.inf), score["composite"])
            print(
                f"the usual way, {spent:.1f} of {minutes:g} minutes: {steps} h, composite {score['composite']:.4f}, "
                f"departures met {score['departures_met']:.3f}",
                file=sys.stderr,
                flush=True,
            )
            if score["passes"] and score["composite"] <= level:
                return result | {"spent": spent, "minutes": spent}
    return result | {"spent": spent}


def measure_whole(seed: int, source: dataset.Dataset, config: TrainConfig, cache: str, device: str) -> dict[str, float]:
    """One seed's training from its first update to its last, as the pipeline does it: its minutes and its best.

    The minutes are without compilation where ``cache`` holds what `measure_ours` compiled.
    """
    _, world = begin(seed, source, config, cache, device)
    folder = train(config, world, tempfile.mkdtemp(dir=cache), seed=seed, device=device, kind=run_on(device))
    log = pd.read_csv(folder / "log.csv")
    kept = log.loc[log["composite"].where(log["passes"] == 1).idxmin()]
    return {
        "updates": float(log["update"].iloc[-1]),
        "minutes": float(log["seconds"].iloc[-1]) / 60,
        "composite": float(kept["composite"]),
        "departures_met": float(kept["departures_met"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--output", type=Path, help="file for that object and what made it (default: none)")
    parser.add_argument("--quick", action="store_true", help="a smoke run: short, uncompiled, without the rule's level")
    parser.add_argument("--edition", default="auto", help="official, offline or auto (default)")
    parser.add_argument("--profile", default="thesis", help="whose learner is measured (default: thesis)")
    parser.add_argument("--variant", default="broadcast", help="of the learner (default: broadcast)")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="processes at once (default: all cores)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--seconds", type=float, default=40.0, help="length of each measurement (default: 40)")
    parser.add_argument("--every", type=int, default=10, help="updates between validations (default: 10)")
    parser.add_argument(
        "--usual-minutes", type=float, default=30.0, help="for the usual way to reach the rule's level (default: 30)"
    )
    parser.add_argument("--usual-every", type=int, default=336, help="hours between its validations (default: 336)")
    args = parser.parse_args()
    try:
        settings = load_config(args.profile).train_for(args.variant)
        source = dataset.find(args.edition)
        device = devices.resolve(args.device).torch
    except (ConfigError, dataset.DatasetError, devices.DeviceError) as error:
        parser.error(str(error))
    seconds = 2.0 if args.quick else args.seconds
    config = TrainConfig(**(settings | {"compile": settings["compile"] and not args.quick}))
    if config.rollout_horizon == 0 or config.replicate:
        parser.error(f"{args.variant}: choose a variant with rollout_horizon above 0 and the data set's own homes")
    form = "compiled" if config.compile else "uncompiled"
    print(
        f"edition {source.edition}, {args.cores} cores; {args.profile} {args.variant}: {config.batch} copies x "
        f"{config.rollout_horizon} h an update, {form}\n"
    )

    rows: list[dict[str, Any]] = []

    def measure(what: str, processes: int, threads: int, work: Callable[..., dict], *arguments: Any) -> float:
        measured = pd.DataFrame(at_once(processes, work, *arguments))
        rates = [name for name in measured if name.endswith("/s")]
        row = measured.mean().to_dict() | measured[rates].sum().to_dict()
        rows.append({"what": what, "processes": processes, "threads each": threads, **row})
        return row["steps/s"]

    forms = [(1, args.cores), (args.cores, 1)] if device == "cpu" else [(args.cores, 1)]  # processes, threads each
    usual = max(measure("17 pairs on CityLearn", p, n, measure_usual, source, n, seconds) for p, n in forms)
    figures: dict[str, float | None] = {"usual_steps_per_s": usual}
    level: dict[str, float] = {}
    usual_level: dict[str, float] = {}
    wide = config.model_copy(update={"batch": config.batch * LARGER})
    whole: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as cache:  # empty: nothing is compiled beforehand
        if device == "cpu":
            measure("Cooperative MADDPG", 1, 1, measure_ours, source, config, cache, seconds)
            ours = measure("Cooperative MADDPG", args.cores, 1, measure_ours, source, config, cache, seconds)
        else:
            ours, figures["large_steps_per_s"] = (
                measure(f"Cooperative MADDPG, {args.device}", 1, 1, measure_ours, source, c, cache, seconds, device)
                for c in (config, wide)
            )
        print(pd.DataFrame(rows).round(1).to_string(index=False, na_rep=""), "\n")
        print(f"ratio {ours / usual:.0f}", flush=True)
        if device != "cpu":
            (whole,) = at_once(1, measure_whole, source, wide, cache, device)
        elif not args.quick:
            (level,) = at_once(1, measure_level, source, config, cache, args.every)
            (usual_level,) = at_once(
                1, measure_usual_level, source, config, cache, args.usual_every, args.usual_minutes
            )

    figures |= {"steps_per_s": ours, "ratio": ours / usual}
    if level:
        minutes = figures["minutes_to_rule_level"] = level.get("minutes")
        print(
            f"composite on the validation weeks: rule {level['rule']:.4f}, untrained policy {level['untrained']:.4f}; "
            f"without habits {level.get('composite', float('nan')):.4f} after {level.get('updates', 0):.0f} updates"
        )
        if minutes is None:
            print("the rule's level was not reached within the budget")
        else:
            print(f"so in {minutes:.2f} minutes on one core, of which {level['compilation']:.2f} compilation")
    if usual_level:
        figures["usual_minutes_to_rule_level"] = usual_level.get("minutes")
        print(
            "the usual way: composite {composite:.4f}, at best {lowest:.4f}, departures met {departures_met:.3f} after "
            "{steps:.0f} hours in {spent:.1f} minutes; ".format_map(defaultdict(lambda: math.nan, usual_level))
            + ("the rule's level" if "minutes" in usual_level else "the rule's level was not reached")
        )
    if whole:
        figures["minutes"] = whole["minutes"]
        print(
            f"{whole['updates']:.0f} updates with {wide.batch} copies in {whole['minutes']:.2f} minutes, with "
            f"validations, compiled before: composite {whole['composite']:.4f} on the validation weeks"
        )
    figures = {name: None if value is None else round(value, 2) for name, value in figures.items()}
    if args.output:
        about = {"profile": args.profile, "variant": args.variant, "cores": args.cores, "seconds": seconds}
        found: dict[str, Any] = {
            "figures": figures,
            "rows": rows,
            "level": level,
            "usual_level": usual_level,
            "whole": whole,
        }
        record = run_record(about, source, None, seeds=[0], device=device, **found)
        write_json_atomic(args.output, record)
    if args.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
