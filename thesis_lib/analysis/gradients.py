"""Why the horizon matters: how close each horizon's actor gradient comes to the exact one.

    python -m thesis_lib.analysis.gradients --help

For each K the critic alone is trained, beside actors that stand still, with as much computing as any other K; then
the actor loss of that K is differentiated in fresh states. The exact gradient is that of EXACT hours rolled through the
community, averaged over many windows. ``results/<profile>/gradients.csv``: horizon, seed, cosine_batch (of one batch's
gradient, mean), cosine_mean (of the mean over all batches: what is left is bias), critic_seconds. The last horizon, the
exact one's own on other windows, says what the estimate of the exact gradient itself allows. A row that is there is
not made again. ``gap_figures`` shows them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from thesis_lib import paths
from thesis_lib.analysis import gap
from thesis_lib.analysis.learner import ERRORS
from thesis_lib.community import dataset as datasets
from thesis_lib.community.model import Community
from thesis_lib.config import Config, load_config
from thesis_lib.controllers import CONTROLLERS
from thesis_lib.maddpg.algorithm import MADDPG
from thesis_lib.maddpg.networks import Critic
from thesis_lib.maddpg.training import TrainConfig, read_checkpoint, train
from thesis_lib.provenance import recipe

FILE = "gradients.csv"
COLUMNS = ["horizon", "seed", "cosine_batch", "cosine_mean", "critic_seconds", "recipe"]
EXACT = 96  # hours of the exact gradient
LEAD = 24  # hours rolled before the gradient is taken, so that states are the policy's own
BATCHES, BATCH = 24, 64
# Updates of the critic: about the same time for every horizon, compiled.
UPDATES = {0: 4000, 1: 3200, 6: 1800, 24: 700, 48: 400}


def gradients(algorithm: MADDPG, world: gap.PrivilegedWorld, horizon: int, seed: int) -> Tensor:
    """The actor loss's gradient in each of BATCHES batches, (BATCHES, P) over all actors' P weights."""
    generator = torch.Generator().manual_seed(seed)
    weights = list(algorithm.policy.actors.parameters())
    found = []
    for _ in range(BATCHES):
        state, window = world.draw(BATCH, LEAD + horizon, generator)
        algorithm.policy.reset()
        with torch.no_grad():
            for hour in window[:LEAD]:
                state, _ = world.step(state, algorithm.policy(world.observe(state, hour)), hour)
        if horizon:
            loss = algorithm.rollout_actor_loss(algorithm.rollout(world, state, window[LEAD:])) * horizon
        else:
            actions, features = algorithm.policy.decide(world.observe(state, window[LEAD]))
            loss = -algorithm.critic(features, actions, own=True)[0].mean()
        found.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)]))
    return torch.stack(found)


def standing(config: TrainConfig, world: gap.PrivilegedWorld, seed: int, say: Callable[[str], None]) -> MADDPG:
    """The learner after ``config.updates`` updates that moved the critic only."""
    torch.compiler.reset()  # see `gap.measure`
    with tempfile.TemporaryDirectory() as folder:
        train(config, world, folder, seed=seed, say=say)
        saved = read_checkpoint(f"{folder}/last.pt", world.fingerprint)
    policy = gap.untrained(config, world, saved)
    agents = world.community.homes if config.critics == "per_agent" else 1
    critic = Critic(policy.features.critic_columns, world.action_mask.cpu(), config.critic_units, agents)
    algorithm = MADDPG(config, policy, critic)
    algorithm.load_state_dict(saved["algorithm"])
    return algorithm


def measure(config: Config, seed: int, data: datasets.Dataset, say: Callable[[str], None] = print) -> pd.DataFrame:
    """Every horizon's cosines for one seed; columns COLUMNS.

    Args:
        config: the profile, whose first variant's settings are the learner's.
        seed: of weights and windows; the exact gradient's windows have another.
        data: the edition.
        say: takes progress.
    """
    settings, made_from = _settings(config), recipe_of(config, seed, data)
    rows = read(config.profile)
    found = rows[(rows.seed == seed) & (rows.recipe == made_from)]
    if len(found) == len(UPDATES) + 1:
        say(f"seed {seed}: its rows are there")
        return found
    env = datasets.load(data)
    env.reset()
    community = Community.from_citylearn(env)
    made: list[tuple] = []
    exact: Tensor | None = None
    for horizon, updates in UPDATES.items():
        changed = {
            "rollout_horizon": horizon,
            "updates": updates,
            "validate_every": updates,
            "critic_warmup": updates if horizon == 0 else 0,
            "batch": 256 if horizon == 0 else settings["batch"],
        }
        train_config = TrainConfig(**(settings | changed))
        world = gap.PrivilegedWorld(community, CONTROLLERS["business_as_usual"](), gap.Privilege(), train_config)
        begun = time.process_time()
        algorithm = standing(train_config, world, seed, say)
        seconds = time.process_time() - begun
        if exact is None:
            alone = MADDPG(TrainConfig(**(settings | {"terminal_value": False})), algorithm.policy, algorithm.critic)
            exact = gradients(alone, world, EXACT, 10_000 + seed)
            ceiling = _cosines(gradients(alone, world, EXACT, seed), exact)
        made.append((horizon, seed, *_cosines(gradients(algorithm, world, horizon, seed), exact), seconds, made_from))
        say(f"seed {seed}, K = {horizon}: cosine {made[-1][2]:.3f} of a batch, {made[-1][3]:.3f} of the mean")
    made.append((EXACT, seed, *ceiling, 0.0, made_from))
    new = pd.DataFrame(made, columns=COLUMNS).round({"critic_seconds": 1})
    gap.keep(paths.results(config.profile) / FILE, new, ["seed"], sorted({*rows.seed, seed}))
    return new


def _settings(config: Config) -> dict[str, Any]:
    return config.train_for(next(iter(config.variants))) | {"actor_rate": 1e-12, "weight_decay": 0.0, "minutes": 60}


def recipe_of(config: Config, seed: int, data: datasets.Dataset) -> str:
    """Digest of all that a seed's rows come from, see `provenance.recipe`."""
    about = {"settings": _settings(config), "seed": seed, "checksums": dict(data.checksums)}
    return recipe(about, [*gap.sources(), paths.LIBRARY / "analysis/gradients.py"])


def _cosines(found: Tensor, exact: Tensor) -> tuple[float, float]:
    """The mean cosine of each row of ``found`` to the mean of ``exact``, and that of its mean."""
    towards = exact.mean(0)
    cosine = torch.nn.functional.cosine_similarity
    return float(cosine(found, towards.unsqueeze(0)).mean()), float(cosine(found.mean(0), towards, dim=0))


def read(profile: str) -> pd.DataFrame:
    """The rows of gradients.csv, columns COLUMNS; none if there is no such file yet."""
    file = paths.results(profile) / FILE
    return pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=COLUMNS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the seeds that are not there yet.

    Exit status 0, or 1 after a one-line error on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m thesis_lib.analysis.gradients", description=main.__doc__)
    parser.add_argument("--profile", default="ablations", help="configs/<profile>.yaml (default: ablations)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    given = parser.parse_args(arguments)
    try:
        config = load_config(given.profile)
        data = datasets.find(config.edition)
        torch.set_num_threads(config.threads)
        for seed in given.seeds:
            rows = measure(config, seed, data, partial(print, file=sys.stderr, flush=True))
            print(rows.drop(columns="recipe").to_string(index=False))
    except ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
