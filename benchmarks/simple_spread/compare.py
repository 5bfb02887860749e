"""K = 0 is MADDPG: this repository's learner beside BenchMARL's, on mpe2's cooperative simple_spread.

    make spread                                              (three seeds each, resumes at the seed where it stopped)
    python benchmarks/simple_spread/compare.py --help        (in the environment of requirements.txt beside this file)

Three agents have 25 steps to cover three landmarks; they share one reward, minus the sum of the distances from each
landmark to the agent nearest to it. Both learners play the same number of steps, make the same number of updates and
are evaluated on the same episodes by the same code. Written: curves.csv, table.csv, run.json and the figure.

Shapes: E games side by side, N agents, O observations, S actions.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from benchmarl.algorithms import MaddpgConfig
from benchmarl.environments.pettingzoo.common import PettingZooClass
from benchmarl.experiment import Callback, Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
from mpe2 import simple_spread_v3
from pydantic import BaseModel, ConfigDict
from scipy import stats
from tensordict import TensorDict
from torch import Tensor
from torchrl.envs.libs.pettingzoo import PettingZooWrapper
from torchrl.envs.utils import ExplorationType, set_exploration_type

from thesis_lib import paths, provenance
from thesis_lib.maddpg.training import TrainConfig, train

# local_ratio 0: nobody has a reward of its own (collisions cost nothing), so that the game is cooperative throughout.
GAME = {"N": 3, "local_ratio": 0.0, "max_cycles": 25, "continuous_actions": True}
AGENTS = [f"agent_{number}" for number in range(GAME["N"])]
OBSERVATIONS, ACTIONS = 18, 5  # of each agent
EVALUATION_SEED = 1_000_000  # of the first evaluation episode; training's seeds stay below
PACKAGES = ("torch", "benchmarl", "torchrl", "tensordict", "mpe2", "pettingzoo", "numpy", "pandas", "scipy")


class Settings(BaseModel):
    """What both learners share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: int = 50_000  # steps of the game played by each seed; one step moves all agents
    games: int = 10  # games played side by side
    batch: int = 256  # transitions of an update
    memory: int = 100_000  # transitions remembered: all of them
    units: int = 64  # width of the two hidden layers of actors and critic
    discount: float = 0.95  # per step (Lowe et al. 2017)
    rate: float = 1e-3  # Adam's learning rate, actors and critic, constant
    target_rate: float = 0.01  # share of the new weights that enters the targets at each update (Lowe et al. 2017)
    gradient_clip: float = 5.0  # largest norm of a gradient, actors and critic apart
    noise: float = 0.2  # standard deviation of the Gaussian exploration, constant; actions lie in [0, 1]
    evaluate_every: int = 5_000  # steps between evaluations
    episodes: int = 100  # of an evaluation, without exploration

    @property
    def updates(self) -> int:
        """Updates of a seed: one for each step of the games side by side."""
        return self.frames // self.games


# --- the game ---


class Games:
    """Games side by side, all in the same step."""

    def __init__(self) -> None:
        self.games: list[Any] = []

    def reset(self, seeds: list[int]) -> Tensor:
        """Begin an episode with each seed: observations (E, N, O)."""
        while len(self.games) < len(seeds):
            self.games.append(simple_spread_v3.parallel_env(**GAME))
        return self._stack([game.reset(seed=seed)[0] for game, seed in zip(self.games, seeds, strict=False)])

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (E, N, S): observations (E, N, O) and the reward that the agents share, (E,)."""
        moves = [dict(zip(AGENTS, move, strict=True)) for move in actions.clamp(0, 1).numpy()]
        answers = [game.step(move) for game, move in zip(self.games, moves, strict=False)]
        reward = torch.tensor([answer[1][AGENTS[0]] for answer in answers], dtype=torch.float32)
        return self._stack([answer[0] for answer in answers]), reward

    def _stack(self, observations: list[dict[str, np.ndarray]]) -> Tensor:
        return torch.from_numpy(np.stack([[seen[agent] for agent in AGENTS] for seen in observations]))


EVALUATION = Games()


def mean_return(act: Callable[[Tensor], Tensor], episodes: int) -> float:
    """Mean return, sum of an episode's rewards, of ``act``: observations (E, N, O) -> actions (E, N, S)."""
    observations = EVALUATION.reset([EVALUATION_SEED + episode for episode in range(episodes)])
    total = torch.zeros(episodes)
    with torch.no_grad():
        for _ in range(GAME["max_cycles"]):
            observations, reward = EVALUATION.step(act(observations))
            total += reward
    return float(total.mean())


# --- this repository ---


class SpreadWorld:
    """The game as a `TrainingWorld`; its state is what the agents see, the games themselves stand behind it."""

    fingerprint = "mpe2 simple_spread_v3"
    observation_names = [[f"observation_{column}" for column in range(OBSERVATIONS)] for _ in AGENTS]
    action_mask = torch.ones(len(AGENTS), ACTIONS, dtype=torch.bool)
    action_low = torch.zeros(len(AGENTS), ACTIONS)
    action_high = torch.ones(len(AGENTS), ACTIONS)
    device = torch.device("cpu")

    def __init__(self, episodes: int):
        self.games, self.episodes, self.frames = Games(), episodes, 0

    def draw(self, batch: int, hours: int, generator: torch.Generator) -> tuple[Tensor, list[None]]:
        """``batch`` new episodes."""
        seeds = torch.randint(EVALUATION_SEED, (batch,), generator=generator).tolist()
        return self.games.reset(seeds), [None] * (hours + 1)

    def observe(self, state: Tensor, hour: None) -> Tensor:
        """The state is what is seen."""
        return state

    def step(self, state: Tensor, actions: Tensor, hour: None) -> tuple[Tensor, Tensor]:
        """See `Games.step`."""
        self.frames += len(actions)
        return self.games.step(actions)

    def validate(self, policy: Any) -> dict[str, float]:
        """Minus the mean return, since training minimises."""
        return {"composite": -mean_return(policy, self.episodes), "passes": 1.0}

    def guard_settings(self, config: TrainConfig) -> dict[str, Any]:
        """There is nothing to guard."""
        return {}

    def make_household(self, settings: dict[str, Any]) -> None:
        """There is nothing to guard."""


def train_config(settings: Settings) -> TrainConfig:
    """The settings in this repository's words."""
    return TrainConfig(
        rollout_horizon=0,
        terminal_value=False,
        discount=settings.discount,
        return_hours=1,
        coordination="none",
        broadcast_delay=0,
        shared_actors=False,
        actor_units=settings.units,
        critics="central",
        critic_units=settings.units,
        actor_optimiser="adam",
        actor_rate=settings.rate,
        weight_decay=0.0,
        critic_rate=settings.rate,
        target_rate=settings.target_rate,
        gradient_clip=settings.gradient_clip,
        mixed_precision=False,
        compile=False,
        updates=settings.updates,
        minutes=1e6,
        batch=settings.batch,
        final_rate=1.0,
        validate_every=settings.evaluate_every // settings.games,
        habits=False,
        guard=False,
        trained_homes=0,
        v2g=True,
        guard_leak=0.0,
        guard_spare_steps=0,
        guard_tolerance=0.0,
        replicate=0,
        augment=False,
        swap_share=0.0,
        reward="team",
        weights={},
        reward_offset=0.0,
        observation_noise=0.0,
        observation_missing=0.0,
        replay_capacity=settings.memory,
        copies=settings.games,
        collect_hours=GAME["max_cycles"],
        updates_per_hour=1,
        warmup_hours=0,
        critic_warmup=0,
        noise="gaussian",
        noise_scale=settings.noise,
        noise_theta=1.0,
    )


def run_ours(settings: Settings, seed: int) -> Iterator[tuple[int, float]]:
    """Train; yields (frames, mean return) of each evaluation."""
    world = SpreadWorld(settings.episodes)
    with tempfile.TemporaryDirectory() as folder:
        train(train_config(settings), world, folder, seed=seed)
        log = pd.read_csv(Path(folder) / "log.csv")
    for row in log.itertuples():
        yield int(row.update) * settings.games, -float(row.composite)


# --- BenchMARL ---


class SpreadTask(PettingZooClass):
    """BenchMARL's own task, with the game from where it has moved to, and another seed for each game side by side."""

    def get_env_fun(self, num_envs: int, continuous_actions: bool, seed: int | None, device: Any) -> Callable:
        """One game; BenchMARL puts several side by side, and would give them all the same seed."""
        assert continuous_actions and seed is not None
        seeds = itertools.count(1000 * seed)
        return lambda: PettingZooWrapper(
            simple_spread_v3.parallel_env(**GAME), return_state=True, seed=next(seeds), device=device
        )


class Evaluate(Callback):
    """Evaluates the policy without exploration after training on each ``evaluate_every`` frames."""

    def __init__(self, settings: Settings):
        super().__init__()
        self.settings, self.curve = settings, []

    def on_train_end(self, training_td: Any, group: str) -> None:
        """Adds (frames, mean return) to the curve."""
        if self.experiment.total_frames % self.settings.evaluate_every == 0:
            with set_exploration_type(ExplorationType.DETERMINISTIC):
                self.curve.append((self.experiment.total_frames, mean_return(self.act, self.settings.episodes)))
            print(*self.curve[-1], flush=True)

    def act(self, observations: Tensor) -> Tensor:
        """Observations (E, N, O) to actions (E, N, S)."""
        count = observations.shape[:1]
        seen = TensorDict({"agent": TensorDict({"observation": observations}, observations.shape[:2])}, count)
        return self.experiment.policy(seen)["agent", "action"]


def benchmarl_config(settings: Settings, folder: str) -> ExperimentConfig:
    """The settings in BenchMARL's words; what is not named keeps BenchMARL's default."""
    config = ExperimentConfig.get_from_yaml()
    config.share_policy_params = False
    config.gamma = settings.discount
    config.lr = settings.rate
    config.adam_eps = 1e-8  # torch's default
    config.clip_grad_norm, config.clip_grad_val = True, settings.gradient_clip
    config.soft_target_update, config.polyak_tau = True, settings.target_rate
    config.exploration_eps_init = config.exploration_eps_end = settings.noise
    config.max_n_frames = settings.frames
    config.off_policy_n_envs_per_worker = settings.games
    config.off_policy_collected_frames_per_batch = settings.games * GAME["max_cycles"]  # one episode of each game
    config.off_policy_n_optimizer_steps = GAME["max_cycles"]
    config.off_policy_train_batch_size = settings.batch
    config.off_policy_memory_size = settings.memory
    config.off_policy_init_random_frames = 0
    config.evaluation, config.render, config.loggers, config.create_json = False, False, [], False
    config.save_folder = folder
    return config


def run_benchmarl(settings: Settings, seed: int) -> Iterator[tuple[int, float]]:
    """Train; yields (frames, mean return) of each evaluation."""
    algorithm, model = MaddpgConfig.get_from_yaml(), MlpConfig.get_from_yaml()
    model.num_cells, model.activation_class = [settings.units, settings.units], torch.nn.SiLU
    evaluate = Evaluate(settings)
    with tempfile.TemporaryDirectory() as folder:
        Experiment(
            task=SpreadTask("SIMPLE_SPREAD", dict(GAME)),
            algorithm_config=algorithm,
            model_config=model,
            seed=seed,
            config=benchmarl_config(settings, folder),
            callbacks=[evaluate],
        ).run()
    yield from evaluate.curve


def run_random(settings: Settings, seed: int) -> Iterator[tuple[int, float]]:
    """Uniform actions, which play nothing before: what no learning is worth."""
    generator = torch.Generator().manual_seed(seed)
    actions = lambda observations: torch.rand(*observations.shape[:2], ACTIONS, generator=generator)  # noqa: E731
    yield 0, mean_return(actions, settings.episodes)


# --- the comparison ---

LEARNERS = {"this repository": run_ours, "BenchMARL": run_benchmarl, "random actions": run_random}
PAIR = ("this repository", "BenchMARL")
DIFFERENCES = """
What the two do not share: this repository's critic is a twin whose lower half counts in the target, with layer norm;
its targets include slowly following actors (BenchMARL: the current ones); its observations are normalised by mean and
deviation over steps of random actions that enter no update; its actors' last layer starts ten times smaller. One
update follows each step of the games side by side; BenchMARL makes the same number after each episode.
"""


def table(curves: pd.DataFrame) -> pd.DataFrame:
    """Mean return at the last evaluation over each learner's seeds, with its 95 % t interval."""
    rows = []
    for learner in LEARNERS:
        runs = curves[curves.learner == learner]
        last = runs[runs.frames == runs.frames.max()]
        mean = last.mean_return.mean()
        low, high = stats.t.interval(0.95, len(last) - 1, mean, stats.sem(last.mean_return))
        rows.append((learner, len(last), int(last.frames.max()), round(mean, 2), round(low, 2), round(high, 2)))
    return pd.DataFrame(rows, columns=["learner", "seeds", "frames", "mean_return", "low", "high"])


def verdict(rows: pd.DataFrame) -> str:
    """Whether each learner's mean lies in the other's interval, in a sentence."""
    ours, theirs = (rows[rows.learner == learner].iloc[0] for learner in PAIR)
    inside = theirs.low <= ours.mean_return <= theirs.high and ours.low <= theirs.mean_return <= ours.high
    overlap = ours.low <= theirs.high and theirs.low <= ours.high
    where = "within" if inside else "not both within"
    return (
        f"The means lie {where} each other's intervals, which {'' if overlap else 'do not '}overlap; "
        f"this repository's less BenchMARL's: {ours.mean_return - theirs.mean_return:+.2f}."
    )


def figure(curves: pd.DataFrame, path: Path) -> None:
    """Each seed's learning curve and each learner's mean, as PNG and PDF."""
    drawing, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for learner, colour in zip(PAIR, ("tab:blue", "tab:orange"), strict=True):
        runs = curves[curves.learner == learner]
        for _, run in runs.groupby("seed"):
            axes.plot(run.frames, run.mean_return, color=colour, alpha=0.4, linewidth=0.8)
        mean = runs.groupby("frames").mean_return.mean()
        axes.plot(mean.index, mean, color=colour, linewidth=2, label=f"{learner}, mean of {runs.seed.nunique()} seeds")
    level = curves[curves.learner == "random actions"].mean_return.mean()
    axes.axhline(level, color="grey", linestyle=":", label="random actions")
    axes.set_xlabel("steps of the game")
    axes.set_ylabel("mean return of an episode of 25 steps (distance)")
    axes.legend(frameon=False)
    for suffix, metadata in ((".png", None), (".pdf", {"CreationDate": None})):
        with provenance.replacing(path.with_suffix(suffix)) as temporary:
            drawing.savefig(temporary, format=suffix[1:], dpi=150, metadata=metadata)
    plt.close(drawing)


def main() -> None:
    """Run what is missing, then write the table and the figure."""
    parser = argparse.ArgumentParser(description="This repository's MADDPG (K = 0) beside BenchMARL's on simple_spread")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of each learner, two at least")
    parser.add_argument("--frames", type=int, default=Settings().frames, help="steps of the game for each seed")
    parser.add_argument("--folder", type=Path, default=paths.results("simple_spread"), help="where the results go")
    asked = parser.parse_args()
    settings = Settings(frames=asked.frames)
    if settings.frames < 1 or settings.frames % settings.evaluate_every or len(set(asked.seeds)) < 2:
        parser.error(f"--frames must be a multiple of {settings.evaluate_every}; --seeds must be two at least")
    torch.set_num_threads(1)
    folder = provenance.ensure_writable(asked.folder)
    git = provenance.git_state()
    record: dict[str, Any] = {
        "settings": settings.model_dump(),
        "game": GAME,
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "cpu": provenance.cpu_name(),
        "runs": {},
    }
    curves = pd.DataFrame(columns=["learner", "seed", "frames", "mean_return"])
    if (folder / "curves.csv").is_file():
        before = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        for what in ("settings", "game", "packages"):
            # torch's build (+cpu, +cu130) may differ, its version may not.
            now, then = ({k: str(v).partition("+")[0] for k, v in found[what].items()} for found in (record, before))
            if now != then:
                raise SystemExit(f"{folder} was written with other {what}: remove it to start anew, or give a --folder")
        record["runs"] = before["runs"]
        curves = pd.read_csv(folder / "curves.csv")
    for seed, (learner, run) in itertools.product(asked.seeds, LEARNERS.items()):
        if ((curves.learner == learner) & (curves.seed == seed)).any():
            continue
        print(f"--- {learner}, seed {seed}", flush=True)
        stopwatch = provenance.Stopwatch()
        with stopwatch("run"):
            rows = [(learner, seed, frames, value) for frames, value in run(settings, seed)]
        record["runs"][f"{learner}, seed {seed}"] = {"git": git, **stopwatch.stages["run"]}
        fresh = pd.DataFrame(rows, columns=curves.columns)
        curves = fresh if curves.empty else pd.concat([curves, fresh], ignore_index=True)
        # A seed counts as run once its curve is there, so the curve comes last.
        provenance.write_json_atomic(folder / "run.json", record)
        provenance.write_csv_atomic(folder / "curves.csv", curves)
    curves = curves[curves.seed.isin(asked.seeds)]
    rows = table(curves)
    provenance.write_csv_atomic(folder / "table.csv", rows)
    figure(curves, folder / "curves")
    print(DIFFERENCES, rows.to_string(index=False), verdict(rows), sep="\n")


if __name__ == "__main__":
    main()
