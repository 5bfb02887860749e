"""Where the time of an update of Cooperative MADDPG goes, uncompiled and compiled: one process, one thread.

    python benchmarks/where.py [--output FILE] [--quick] [--profile thesis] [--variant broadcast] [--updates 20]
                               [--seeds 5]

Both forms train the same seed and take turns, an update each, after a few that warm up (and compile). Wall time is
taken without the profiler, which slows small operators down; each moment of an update counts for one part alone.

Further updates run under ``torch.profiler``: how many operators an update starts, without those that an operator calls
in turn, and which took the most time of their own, as a share of all that the profiler saw; what it saw beside
operators is autograd, and of the compiled form what looks up and calls what was compiled. A fused kernel counts as an
operator. ``compiled`` needs a C++ compiler.

A third run takes its turns with ``--seeds`` times the batch, in the quicker form: what that saves is the most that as
many seeds trained side by side in one process could, for their weights would differ, and there all copies share them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch._inductor.config
from torch.profiler import ProfilerActivity, profile

from thesis_lib.community import dataset
from thesis_lib.community.model import Community
from thesis_lib.config import ConfigError, load_config
from thesis_lib.controllers.rules import BusinessAsUsual
from thesis_lib.maddpg.training import Run, TrainConfig
from thesis_lib.provenance import run_record, write_json_atomic

WINDOW, FORWARD, BACKWARD = "window drawn", "rollout, forward", "rollout, backward"
ACTORS, CRITIC, TARGETS, REST = "actors' optimiser", "critic's update", "targets", "the rest"
FORMS = ("uncompiled", "compiled")
TOGETHER = "seeds"  # not a form of the update, but a larger one
PARTS = (WINDOW, FORWARD, BACKWARD, ACTORS, CRITIC, TARGETS, REST)
WARM, PROFILED, TOP = 3, 3, 10


class Clock:
    """Wall seconds (s) of each part of a run's updates, its methods wrapped from outside."""

    def __init__(self, run: Run):
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.part, self.mark = REST, time.perf_counter()
        algorithm = run.algorithm
        backward, critic = (self.timed(part, algorithm._descend) for part in (BACKWARD, CRITIC))
        algorithm._descend = lambda *given: (critic if given[2] is algorithm.critic else backward)(*given)
        for part, owner, name in (
            (WINDOW, run.world, "draw"),
            (FORWARD, algorithm, "rollout"),
            (FORWARD, algorithm, "rollout_actor_loss"),
            (ACTORS, algorithm.actor_optimiser, "step"),  # inside the actors' `_descend`, and taken off it
            (CRITIC, algorithm, "rollout_target"),
            (CRITIC, algorithm, "_critic_loss"),
            (TARGETS, algorithm, "_follow"),
        ):
            setattr(owner, name, self.timed(part, getattr(owner, name)))

    def turn(self, part: str) -> str:
        """From now on it is ``part``'s time; returns whose it was."""
        now = time.perf_counter()
        self.seconds[self.part] += now - self.mark
        before, self.part, self.mark = self.part, part, now
        return before

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, its time counted for ``part``."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            before = self.turn(part)
            try:
                return call(*args, **kwargs)
            finally:
                self.turn(before)

        return wrapped


def take_turns(runs: dict[str, Run], updates: int, warm: int) -> dict[str, dict[str, float]]:
    """Seconds of each part of an update, by form: the mean of ``updates`` updates after ``warm`` others."""
    clocks = {form: Clock(run) for form, run in runs.items()}
    for number in range(warm + updates):
        for form, run in runs.items():
            clocks[form].mark = time.perf_counter()
            run.iterate()
            clocks[form].turn(REST)
            if number < warm:
                clocks[form].seconds = dict.fromkeys(PARTS, 0.0)
    return {form: {part: s / updates for part, s in clock.seconds.items()} for form, clock in clocks.items()}


def is_operator(name: str) -> bool:
    """Whether the profiler's event of this name computes: an operator of torch or a fused kernel."""
    return name.startswith("aten::") or "cpp_fused" in name


def operators(run: Run, updates: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Under the profiler: how many operators an update starts, their share of the time, and those that took most."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(updates):
            run.iterate()
    own = [event for event in seen.events() if is_operator(event.name)]
    started = sum(event.cpu_parent is None or not is_operator(event.cpu_parent.name) for event in own)
    kinds = seen.key_averages()
    total = sum(kind.self_cpu_time_total for kind in kinds)
    most = [
        {"name": kind.key, "calls": kind.count / updates, "share": kind.self_cpu_time_total / total}
        for kind in sorted(kinds, key=lambda kind: -kind.self_cpu_time_total)
        if is_operator(kind.key)
    ]
    share = sum(kind["share"] for kind in most)
    return {"operators_per_update": round(started / updates), "operators_share": round(share, 4)}, most[:TOP]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="file for the figures and what made them (default: none)")
    parser.add_argument("--quick", action="store_true", help="a smoke run: few copies and hours, uncompiled alone")
    parser.add_argument("--edition", default="auto", help="official, offline or auto (default)")
    parser.add_argument("--profile", default="thesis", help="whose learner is measured (default: thesis)")
    parser.add_argument("--variant", default="broadcast", help="of the learner (default: broadcast)")
    parser.add_argument("--updates", type=int, default=20, help="timed updates of each form (default: 20)")
    parser.add_argument("--seeds", type=int, default=5, help="times the batch of the third run (default: 5)")
    args = parser.parse_args(arguments)
    if min(args.updates, args.seeds) < 1:
        parser.error("--updates and --seeds: at least 1")
    torch.set_num_threads(1)
    try:
        settings = load_config(args.profile).train_for(args.variant)
        source = dataset.find(args.edition)
    except (ConfigError, dataset.DatasetError) as error:
        parser.error(str(error))
    if settings["rollout_horizon"] == 0 or settings["replicate"]:
        parser.error(f"{args.variant}: choose a variant with rollout_horizon above 0 and the data set's own homes")
    forms, updates, warm, profiled = list(FORMS), args.updates, WARM, PROFILED
    if args.quick:
        forms, updates, warm, profiled = list(FORMS[:1]), 2, 1, 1
        settings |= {"batch": 4, "rollout_horizon": 3}
    env = dataset.load(source)
    env.reset()
    community = Community.from_citylearn(env).to(torch.device("cpu"), torch.float32)
    runs = {}
    wanted = {form: (form == "compiled", 1) for form in forms} | {TOGETHER: (forms[-1] == "compiled", args.seeds)}
    for name, (compiled, times) in wanted.items():
        config = TrainConfig(**(settings | {"compile": compiled, "batch": times * settings["batch"]}))
        runs[name] = Run(config, Run.world_of(config, community, BusinessAsUsual()), seed=0)
    with torch._inductor.config.patch({"cpp.enable_kernel_profile": True}):  # the profiler sees fused kernels
        spent = take_turns(runs, updates, warm)
        found = {form: operators(runs[form], profiled) for form in forms}
    together = sum(spent.pop(TOGETHER).values())
    print(f"edition {source.edition}; {args.profile} {args.variant}, one thread, {updates} updates of each form\n")
    shares = pd.DataFrame(spent) / pd.DataFrame(spent).sum()
    print((100 * shares).round(1).add_suffix(" %").to_string(), "\n")
    rows: list[dict[str, Any]] = []
    figures: dict[str, float] = {}
    for form, (seen, top) in found.items():
        whole = sum(spent[form].values())
        rows += [{"form": form, "part": part, "s": s, "share": s / whole} for part, s in spent[form].items()]
        figures |= {f"{form}_{what}": value for what, value in {"s_per_update": round(whole, 4), **seen}.items()}
        print(f"{form}: {whole:.3f} s and {seen['operators_per_update']:,} operators an update, whose own time is")
        print(f"{100 * seen['operators_share']:6.1f} % of what the profiler saw, among them")
        print("\n".join(f"{100 * k['share']:6.1f} % {k['calls']:7.0f} x {k['name'][:80]}" for k in top), "\n")
    saving = args.seeds * sum(spent[forms[-1]].values()) / together
    print(f"{args.seeds} times the batch: {together:.3f} s an update, {saving:.2f} times quicker a copy")
    figures |= {"seeds": args.seeds, "seeds_s_per_update": round(together, 4), "seeds_saving": round(saving, 3)}
    if args.output:
        about = {"profile": args.profile, "variant": args.variant, "threads": 1, "updates": updates}
        about |= {name: settings[name] for name in ("batch", "rollout_horizon")}
        most = [{"form": form, **kind} for form, (_, top) in found.items() for kind in top]
        write_json_atomic(args.output, run_record(about, source, seeds=[0], figures=figures, rows=rows, operators=most))


if __name__ == "__main__":
    main()
