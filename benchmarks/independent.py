"""Speed of independent learners: homes batched together here, against one Stable-Baselines3 learner for each home.

    python benchmarks/independent.py [--output FILE] [--quick] [--profile thesis]

Both learn from the same community model, as many copies at once, and do the same for each hour they collect: every
home acts in every copy, remembers what came of it, and makes the profile's number of updates of its critics and its
actor, with batches, networks and rates of the profile's size. Ours is measured twice: ``bare``, as theirs, and as it
is, with the habits and the guard between a home's network and what is done, in every update too. Theirs would have to
do that as well, in policies of our own for each home.

A library at most twice as slow would have been used, had it done all that ours does; why it is not, although bare TD3
is within that, stands in thesis_lib/controllers/independent.py.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from gymnasium.spaces import Box
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from thesis_lib.analysis.learner import settings_of
from thesis_lib.community import dataset
from thesis_lib.community.model import Community
from thesis_lib.config import ConfigError, load_config
from thesis_lib.controllers import LEARNERS
from thesis_lib.controllers.rules import BusinessAsUsual
from thesis_lib.maddpg.training import TrainingWorld
from thesis_lib.provenance import run_record, write_json_atomic

ALGORITHMS = {"independent_td3": TD3, "independent_sac": SAC}
ENDLESS = {"updates": 10**9, "critic_warmup": 0}


class OneHome(VecEnv):
    """What Stable-Baselines3 asks of an environment, to know a home's spaces; the community itself is stepped here."""

    def __init__(self, copies: int, observations: int, low: np.ndarray, high: np.ndarray):
        seen = Box(-np.inf, np.inf, (observations,), np.float32)
        super().__init__(copies, seen, Box(low.astype(np.float32), high.astype(np.float32)))

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    def close(self) -> None:
        pass

    def _no_episode(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("the community is stepped for all homes at once")

    reset = step_async = step_wait = set_attr = env_method = _no_episode


class PerHome:
    """A Stable-Baselines3 learner for each home, in lockstep around one batch of communities."""

    def __init__(self, name: str, config: Any, world: TrainingWorld, look: Callable[[Tensor], Tensor]):
        """``look``: observations (B, H, O) to what networks read (B, H, I), as in ours."""
        self.config, self.world, self.look = config, world, look
        self.generator = torch.Generator().manual_seed(0)
        inputs = look(torch.zeros(1, len(world.observation_names), max(map(len, world.observation_names)))).shape[2]
        self.slots = [np.flatnonzero(mask) for mask in world.action_mask.numpy()]
        self.models = []
        for home, slots in enumerate(self.slots):
            low, high = (bound[home].numpy()[slots] for bound in (world.action_low, world.action_high))
            options: dict[str, Any] = {
                "policy_kwargs": {"net_arch": {"pi": [config.actor_units] * 2, "qf": [config.critic_units] * 2}},
                "learning_rate": config.critic_rate,
                "buffer_size": config.replay_capacity,
                "batch_size": config.batch,
                "tau": config.target_rate,
                "gamma": config.discount,
                "seed": 0,
                "device": "cpu",
            }
            if name == "independent_td3":
                options["policy_delay"] = 1  # the actor with each update of its critics, as ours
            model = ALGORITHMS[name]("MlpPolicy", OneHome(config.copies, inputs, low, high), **options)
            model.set_logger(Logger(None, []))
            self.models.append(model)
        scale = config.noise_scale
        spread = [NormalActionNoise(np.zeros(len(slots)), np.full(len(slots), scale)) for slots in self.slots]
        self.noise = [VectorizedActionNoise(noise, config.copies) for noise in spread]
        self.sample = name == "independent_sac"
        self.seconds = {"collecting": 0.0, "updating": 0.0}

    def collect(self, learn: bool = True) -> int:
        """One window of the config's hours; the updates that were made."""
        config, world = self.config, self.world
        state, window = world.draw(config.copies, config.collect_hours, self.generator)
        seen, updates = self.look(world.observe(state, window[0])).numpy(), 0
        over = np.zeros(config.copies)
        told: list[dict[str, Any]] = [{} for _ in range(config.copies)]
        for hour, following in zip(window[:-1], window[1:], strict=True):
            begun = time.perf_counter()
            actions, own = torch.zeros(config.copies, *world.action_mask.shape), []
            for home, model in enumerate(self.models):
                action, _ = model.predict(seen[:, home], deterministic=not self.sample)
                scaled = model.policy.scale_action(action)
                if not self.sample:
                    scaled = np.clip(scaled + self.noise[home](), -1, 1)
                own.append(scaled)
                actions[:, home, self.slots[home]] = torch.from_numpy(model.policy.unscale_action(scaled)).float()
            with torch.no_grad():
                state, reward = world.step(state, actions, hour)
                after = self.look(world.observe(state, following)).numpy()
            for home, model in enumerate(self.models):
                gained = reward[:, home].numpy()
                model.replay_buffer.add(seen[:, home], after[:, home], own[home], gained, over, told)
            seen = after
            self.seconds["collecting"] += time.perf_counter() - begun
            if learn:
                begun = time.perf_counter()
                for model in self.models:
                    model.train(gradient_steps=config.updates_per_hour, batch_size=config.batch)
                updates += config.updates_per_hour
                self.seconds["updating"] += time.perf_counter() - begun
        return updates


def measure(collect: Callable[[], int], seconds: float) -> float:
    """Updates of all homes in a second, in as many whole windows as ``seconds`` take."""
    updates, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds or not updates:
        updates += collect()
    return updates / (time.perf_counter() - begun)


def compare(name: str, settings: dict[str, Any], community: Community, seconds: float) -> dict[str, Any]:
    """The learner ``name`` of both makes on the same community: updates in a second, and the ratios."""
    kind = LEARNERS[name]

    def learner(**different: Any) -> Any:
        config = kind.Config(**(settings | different | ENDLESS))
        return kind(config, kind.world_of(config, community, BusinessAsUsual()), seed=0)

    def ours(run: Any) -> float:
        def iterate() -> int:
            before = run.updates
            run.iterate()
            return run.updates - before

        while not iterate():  # the warm-up
            pass
        return measure(iterate, seconds)

    whole, bare = learner(), learner(habits=False, guard=False)
    eyes = bare.algorithm.policy
    theirs = PerHome(name, bare.config, bare.world, lambda observations: eyes.read(eyes.see(observations)))
    for _ in range(math.ceil(bare.config.warmup_hours / bare.config.collect_hours)):
        theirs.collect(learn=False)
    theirs.seconds = dict.fromkeys(theirs.seconds, 0.0)
    rates = {"as_is": ours(whole), "bare": ours(bare), "sb3": measure(theirs.collect, seconds)}
    return {
        "learner": name,
        **{f"{what}_updates/s": rate for what, rate in rates.items()},
        **{f"{what}_ratio": rates[what] / rates["sb3"] for what in ("bare", "as_is")},
        "sb3_updating_share": theirs.seconds["updating"] / sum(theirs.seconds.values()),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="file for the figures and what made them (default: none)")
    parser.add_argument("--quick", action="store_true", help="a smoke run: few copies and hours")
    parser.add_argument("--edition", default="auto", help="official, offline or auto (default)")
    parser.add_argument("--profile", default="thesis", help="whose learners are measured (default: thesis)")
    parser.add_argument("--seconds", type=float, default=40.0, help="length of each measurement (default: 40)")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        profile = load_config(args.profile)
        settings = {name: settings_of(profile, "default", name) for name in ALGORITHMS}
        source = dataset.find(args.edition)
    except (ConfigError, dataset.DatasetError) as error:
        parser.error(str(error))
    env = dataset.load(source)
    env.reset()
    community = Community.from_citylearn(env).to(torch.device("cpu"), torch.float32)
    seconds, small = args.seconds, {}
    if args.quick:
        seconds, small = 0.1, {"copies": 4, "collect_hours": 4, "warmup_hours": 4, "batch": 8, "replay_capacity": 200}
    rows = [compare(name, settings[name] | small, community, seconds) for name in ALGORITHMS]
    print(f"edition {source.edition}, one core; an update is one of each of the {community.homes} homes\n")
    print(pd.DataFrame(rows).round(2).to_string(index=False), "\n")
    for row in rows:
        print(f"{row['learner']}: ratio {row['bare_ratio']:.1f} bare, {row['as_is_ratio']:.1f} as it is")
    if args.output:
        ratios = ("bare_ratio", "as_is_ratio")
        figures = {f"{row['learner']}_{what}": round(row[what], 2) for row in rows for what in ratios}
        about = {"profile": args.profile, "cores": 1, "of": os.cpu_count(), "seconds": seconds}
        write_json_atomic(args.output, run_record(about, source, seeds=[0], figures=figures, rows=rows))


if __name__ == "__main__":
    main()
