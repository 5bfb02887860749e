"""Speed of the community model against CityLearn itself: same run, same cores, medians, ratios.

    python benchmarks/model.py [--json] [--output FILE] [--edition official] [--threads 2]

Both take random actions; CityLearn's step includes the observations and reward it always computes, the model's
includes its observations where the table says so. ``compiled`` is ``torch.compile`` and needs a C++ compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from thesis_lib.community import dataset
from thesis_lib.community.kpis import Service
from thesis_lib.community.model import Community
from thesis_lib.community.observations import Observer, to_lists
from thesis_lib.community.reading import read_environment
from thesis_lib.community.replication import replicated
from thesis_lib.provenance import run_record, write_json_atomic


def steps_per_s(run: Callable[[], int], repeats: int) -> float:
    """Median steps per second of ``run``, which returns how many community-steps it took; one warm-up first."""
    run()
    rates = []
    for _ in range(repeats):
        begin = time.perf_counter()
        steps = run()
        rates.append(steps / (time.perf_counter() - begin))
    return statistics.median(rates)


def citylearn(env: Any, community: Community, steps: int) -> Callable[[], int]:
    """CityLearn stepping on from where it stands with random actions."""
    draw = torch.Generator().manual_seed(0)
    actions = torch.rand(steps, 1, community.homes, community.slots, generator=draw) * 2 - 1
    lists = [to_lists(community, a) for a in actions.clamp(community.action_low, community.action_high)]
    env.reset()

    def run() -> int:
        for a in lists:
            env.step(a)
        return steps

    return run


def rollout(
    community: Community,
    batch: int,
    steps: int,
    step: Callable[..., Any],
    backward: bool = False,
    observe: bool = False,
) -> Callable[[], int]:
    """The model's copies stepping from spread starts with random actions, with or without the backward pass."""
    draw = torch.Generator(device=community.device).manual_seed(0)
    shape = (steps, batch, community.homes, community.slots)
    actions = torch.rand(shape, generator=draw, device=community.device) * 2 - 1
    start = torch.arange(batch, device=community.device) % (community.rows - steps - 1)
    observer = Observer(community) if observe else None

    def run() -> int:
        with torch.enable_grad() if backward else torch.inference_mode():
            controls = actions.clone().requires_grad_(backward)
            state = community.reset(batch, start, steps)
            cost = torch.zeros((), device=community.device)
            for control in controls.unbind(0):
                if observer:
                    observer(state)
                state, flows = step(state, control)
                cost = cost + flows.cost.sum()
            if backward:
                cost.backward()
            cost.item()  # waits for the device
        return batch * steps

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--output", type=Path, help="file for that object and what made it (default: none)")
    parser.add_argument("--edition", default="auto", help="official, offline or auto (default)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="torch threads (default: all cores)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--repeats", type=int, default=7, help="timed repeats of each figure (default: 7)")
    parser.add_argument("--no-compile", action="store_true", help="leave the compiled figures out (no C++ compiler)")
    args = parser.parse_args()
    try:
        source = dataset.find(args.edition)
    except dataset.DatasetError as error:
        parser.error(str(error))
    torch.set_num_threads(args.threads)
    env = dataset.load(source)
    community = Community.from_citylearn(env).to(args.device)
    peer = steps_per_s(citylearn(env, Community.from_citylearn(env), 200), args.repeats)
    print(f"edition {source.edition}, {args.threads} threads, {args.device}; CityLearn {peer:.0f} steps/s\n")

    rows = []

    def measure(what: str, batch: int, steps: int, step: Callable[..., Any] = community.step, **kind: bool) -> float:
        rate = steps_per_s(rollout(community, batch, steps, step, **kind), args.repeats)
        rows.append({"what": what, "copies": batch, "steps/s": round(rate), "ratio": round(rate / peer, 1)})
        return rate / peer

    forward_1 = measure("forward", 1, 200)
    for batch in (4, 16, 64, 256):
        measure("forward", batch, 48)
    forward = measure("forward", 1024, 48)
    measure("forward", 4096, 24)
    measure("forward with observations", 1024, 48, observe=True)
    backward = measure("forward and backward", 1024, 24, backward=True)
    if not args.no_compile:
        compiled = torch.compile(community.step, dynamic=False)
        measure("forward, compiled", 1, 200, compiled)
        measure("forward, compiled", 1024, 48, compiled)
        measure("forward and backward, compiled", 1024, 24, compiled, backward=True)
    print(pd.DataFrame(rows).to_string(index=False), "\n")

    growth = []
    env = dataset.load(source)
    env.reset()
    one, service = read_environment(env), Service.from_citylearn(env)
    for times in (1, 10, 100):
        large = Community(replicated(one, service, times * community.homes)[0]).to(args.device)
        rate = steps_per_s(rollout(large, 16, 12, large.step), args.repeats)
        growth.append(
            {"homes": large.homes, "copies": 16, "steps/s": round(rate), "home-steps/s": round(rate * large.homes)}
        )
    print(pd.DataFrame(growth).to_string(index=False))
    figures = {
        "citylearn_steps_per_s": peer,
        "forward_ratio_1024": forward,
        "backward_ratio_1024": backward,
        "forward_ratio_1": forward_1,
    }
    figures = {name: round(value, 1) for name, value in figures.items()}
    if args.output:
        settings = {"threads": args.threads, "repeats": args.repeats}
        record = run_record(settings, source, seeds=[], device=args.device, figures=figures, rows=rows, growth=growth)
        write_json_atomic(args.output, record)
    if args.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
