"""One seed of one variant of the learner, from its settings to its rows: what notebook 02 shows and batches repeat.

    python -m thesis_lib.analysis.learner announce --profile quick --seed 0
    python -m thesis_lib.analysis.learner --controller independent_sac --profile quick --seed 0

A run leaves what `evaluation` says, and the learner's log beside it as ``training.csv``. One whose rows were made by
today's recipe (settings, data, code) is only read, in a fresh clone too, where its checkpoint is not.
"""

from __future__ import annotations

import argparse
import inspect
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock
from pydantic import BaseModel

from thesis_lib import paths
from thesis_lib.analysis import evaluation
from thesis_lib.analysis.evaluation import REFERENCE, EvaluationError
from thesis_lib.community import dataset as datasets
from thesis_lib.community.dataset import Dataset, DatasetError
from thesis_lib.community.kpis import Service
from thesis_lib.community.model import Community
from thesis_lib.community.reading import read_environment
from thesis_lib.community.replication import replicated
from thesis_lib.config import Config, ConfigError, load_config
from thesis_lib.controllers import CONTROLLERS, LEARNERS, Controller
from thesis_lib.controllers.disturbed import Disturbed
from thesis_lib.maddpg import captured
from thesis_lib.maddpg import device as devices
from thesis_lib.maddpg.training import CheckpointError, Run, TrainedPolicy, load_policy, train
from thesis_lib.provenance import Stopwatch, ensure_writable, sha256, write_csv_atomic, write_text_atomic

CONTROLLER = "cooperative_maddpg"
# What the command of a training says in one line; the last but one: a loss that is not finite.
ERRORS = (ConfigError, DatasetError, EvaluationError, CheckpointError, devices.DeviceError, FloatingPointError, OSError)
AFTERWARDS = ("observation_noise", "observation_missing")  # keys of `train` that only the evaluation reads


def learn(
    config: Config,
    variant: str,
    seed: int,
    data: Dataset,
    *,
    controller: str = CONTROLLER,
    overrides: Mapping[str, Any] | None = None,
    end: int | None = None,
    stopwatch: Stopwatch | None = None,
    say: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Train one seed, roll its policy through the year and leave its rows; only read them if they are there.

    Variants that differ in the evaluation only share one training. A training that was stopped goes on from its
    checkpoint, unless the checkpoint is of another recipe: then it starts anew.

    Args:
        config: the profile.
        variant: one of its variants.
        seed: of weights, training windows and noise.
        data: the edition.
        controller: the learner, or one of those compared with it (`LEARNERS`), whose one variant is "default".
        overrides: values in place of the profile's, for trials.
        end: last row of the evaluation; None for the year.
        stopwatch: times the stages of this run.
        say: takes one line per validation.

    Returns:
        The run's rows of the long table.

    Raises:
        ConfigError: no such variant or learner, or no compiler where the settings ask for one.
        EvaluationError: the time of the training was over before its first update.
        CheckpointError, DeviceError, SystemExit: as `train`.
        OSError: results cannot be written.
    """
    watch = stopwatch or Stopwatch()
    settings = settings_of(config, variant, controller) | dict(overrides or {})
    homes = settings.get("replicate", 0)
    folder = paths.run(config.profile, data.edition, controller, variant, seed)
    made_from = recipe(config, variant, seed, data, controller=controller, overrides=overrides, end=end)
    if evaluation.recorded_recipe(folder) == made_from and (folder / "training.csv").is_file():
        say(f"{controller}, {variant}, seed {seed}: its rows are there")
        return evaluation.read_rows(folder / "kpis.csv")
    if settings.get("compile"):
        find_compiler(config.device)
    ensure_writable(folder)

    reference = evaluation.variant_of(homes)
    common: dict[str, Any] = {"homes": homes, "config": config, "end": end, "progress": False}
    usual = paths.run(config.profile, data.edition, REFERENCE, reference, 0)
    with watch("reference"), FileLock(ensure_writable(usual) / ".lock"):  # seeds begin together, one of them rolls it
        evaluation.evaluate_controller(
            REFERENCE, reference, 0, CONTROLLERS[REFERENCE], data, config.profile, config.engines, **common
        )
    policy, log, training = trained(
        config, variant, seed, data, controller=controller, overrides=overrides, stopwatch=watch, say=say
    )
    (folder / "run.json").unlink(missing_ok=True)  # earlier rows are not those of this training
    write_csv_atomic(folder / "training.csv", log.assign(controller=controller, variant=variant, seed=seed))
    rows = evaluation.evaluate_controller(
        controller,
        variant,
        seed,
        _seen_through(policy, settings, seed),
        data,
        config.profile,
        config.engines,
        settings={"train": settings},
        code=code(controller, settings),
        stopwatch=watch,
        device=devices.resolve(config.device).torch,
        training=training,
        **common,
    )
    return rows


def trained(
    config: Config,
    variant: str,
    seed: int,
    data: Dataset,
    *,
    controller: str = CONTROLLER,
    overrides: Mapping[str, Any] | None = None,
    stopwatch: Stopwatch | None = None,
    say: Callable[[str], None] = print,
) -> tuple[TrainedPolicy, pd.DataFrame, dict[str, Any]]:
    """Train one seed, from its checkpoint where there is one; arguments and errors as of `learn`.

    Returns:
        The policy, which saw its readings as they are; the training's log; and what run.json says of it.
    """
    env = datasets.load(data)
    env.reset()
    twin = trained_as(config, variant) if controller == CONTROLLER else variant
    settings = settings_of(config, twin, controller) | dict(overrides or {})
    community = _first_homes(env, settings.get("replicate", 0))
    kind = LEARNERS.get(controller) or run_on(config.device)
    train_config = kind.Config(**settings)
    few = settings.get("trained_homes", 0)
    trained_on = _first_homes(env, few) if few else community
    checkpoints = ensure_writable(paths.checkpoints(config.profile, data.edition, controller, twin, seed))
    repeatable(config.device)
    torch.compiler.reset()  # as in a process of its own: after eight kinds of input torch no longer compiles
    watch = stopwatch or Stopwatch()
    with watch("training"), FileLock(checkpoints / ".lock"):  # whoever shares this training waits for it
        _forget_another(checkpoints, _training_recipe(controller, train_config, seed, data), say)
        train(
            train_config,
            trained_on,
            checkpoints,
            seed=seed,
            device=config.device,
            reference=CONTROLLERS[REFERENCE](),
            say=say,
            kind=kind,
        )
    if not (checkpoints / "log.csv").is_file():
        budget = f"the {train_config.minutes:g} minutes of its budget"
        key = "train.minutes" if controller == CONTROLLER else f"learners.{controller}.minutes"
        raise EvaluationError(f"{variant}, seed {seed}: no update came to its end in {budget}; raise {key}")
    log = pd.read_csv(checkpoints / "log.csv")
    weights = checkpoints / ("best.pt" if (checkpoints / "best.pt").is_file() else "last.pt")
    policy = load_policy(weights, community, trained_on=None if trained_on is community else trained_on, kind=kind)
    about = {
        "variant": twin,
        "weights": weights.name,
        "checkpoint": sha256(weights),
        "updates": int(log["update"].iloc[-1]),
        "seconds": float(log["seconds"].iloc[-1]),
        **_memory(),
    }
    return policy, log, about


def repeatable(device: str) -> None:
    """Let the same seed give the same bits on a GPU too, where torch else adds in any order; for the whole process.

    Args:
        device: as in the profile; on the CPU the order is always the same, and nothing changes.

    Raises:
        DeviceError: no such device.
    """
    if devices.resolve(device).torch.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it before its first product
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing reads it


def run_on(device: str) -> type[Run]:
    """Whose updates are quick there: on a GPU those that are recorded once and then started at once.

    Raises:
        DeviceError: no such device.
    """
    return captured.CapturedRun if devices.resolve(device).torch.startswith("cuda") else Run


def find_compiler(device: str) -> None:
    """Look where torch.compile will look once training has begun.

    Raises:
        ConfigError: it needs a C++ compiler and there is none.
        DeviceError: no such device.
    """
    compiler = os.environ.get("CXX", {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++"))
    if devices.resolve(device).torch == "cpu" and shutil.which(compiler) is None:
        advice = "install it, name yours in CXX, or set compile: false"
        raise ConfigError(f"compile: true needs a C++ compiler, and there is no {compiler}: {advice}")


def _first_homes(env: Any, homes: int) -> Community:
    """The community of so many of the first homes, or of copies of them; 0: as the data set has it."""
    if not homes:
        return Community.from_citylearn(env)
    return Community(replicated(read_environment(env), Service.from_citylearn(env), homes)[0])


def recipe(
    config: Config,
    variant: str,
    seed: int,
    data: Dataset,
    *,
    controller: str = CONTROLLER,
    overrides: Mapping[str, Any] | None = None,
    end: int | None = None,
) -> str:
    """The recipe of a run's rows, as `evaluation.recipe_of`; arguments as of `learn`."""
    settings = settings_of(config, variant, controller) | dict(overrides or {})
    return evaluation.recipe_of(
        controller,
        seed,
        data,
        config.engines,
        {"train": settings},
        code=code(controller, settings),
        homes=settings.get("replicate", 0),
        end=end,
    )


def outdated(config: Config, data: Dataset, end: int | None = None) -> dict[str, list[int]]:
    """Variants and compared learners -> the seeds whose rows are of other settings, data or code than today's.

    Args:
        config: the profile.
        data: the edition.
        end: as of `learn`.
    """
    asked = [(CONTROLLER, name) for name in config.variants] + [(name, "default") for name in config.learners]
    found: dict[str, list[int]] = {}
    for controller, variant in asked:
        for run in evaluation.runs(config.profile, data.edition, controller, variant):
            made_from = recipe(config, variant, run.seed, data, controller=controller, end=end)
            if evaluation.recorded_recipe(run.folder) != made_from:
                found.setdefault(variant if controller == CONTROLLER else controller, []).append(run.seed)
    return found


def settings_of(config: Config, variant: str, controller: str = CONTROLLER) -> dict[str, Any]:
    """The profile's settings of a variant of the learner, or of one compared with it.

    Raises:
        ConfigError: no such variant or learner.
    """
    if controller == CONTROLLER:
        return config.train_for(variant)
    if variant != "default":
        raise ConfigError(f"{controller} has no variant '{variant}'; allowed is default")
    return config.learner_for(controller)


def code(controller: str = CONTROLLER, settings: Mapping[str, Any] | None = None) -> list[Path]:
    """The files of the library that a policy's rows depend on, besides those of every run.

    ``settings``: of the evaluation; with bad meters these count too. None for the training alone.
    """
    # How a GPU is driven counts as little as which processor it is: the formulas are those of the other files.
    shared = sorted(set((paths.LIBRARY / "maddpg").glob("*.py")) - {Path(inspect.getfile(captured)).resolve()})
    if any((settings or {}).get(key) for key in AFTERWARDS):
        shared.append(Path(inspect.getfile(Disturbed)).resolve())
    if controller == CONTROLLER:
        return shared
    kinds = LEARNERS[controller].__mro__
    own = {Path(inspect.getfile(kind)).resolve() for kind in kinds if kind.__module__.startswith("thesis_lib")}
    return sorted({*shared, *own})


def homes_of(config: Config, variant: str) -> int:
    """How many replicated homes a variant lives in; 0 for the data set's own."""
    return config.train_for(variant)["replicate"]


def trained_as(config: Config, variant: str) -> str:
    """The variant whose training this one shares: the first of the profile that differs in the evaluation only."""

    def training(name: str) -> dict[str, Any]:
        return {key: value for key, value in config.train_for(name).items() if key not in AFTERWARDS}

    return next(name for name in config.variants if training(name) == training(variant))


def _training_recipe(controller: str, train_config: BaseModel, seed: int, data: Dataset) -> str:
    settings = {"train": train_config.model_dump()}
    return evaluation.recipe_of(controller, seed, data, (), settings, code=code(controller))


def _forget_another(checkpoints: Path, made_from: str, say: Callable[[str], None]) -> None:
    """Remove the checkpoints of another recipe: training would go on from them, or take them for its own."""
    note = checkpoints / "recipe.txt"
    if note.is_file() and note.read_text(encoding="utf-8").strip() == made_from:
        return
    for name in ("best.pt", "last.pt", "log.csv"):
        if (checkpoints / name).is_file():
            say(f"{name} was made by other settings, data or code: training starts anew")
            (checkpoints / name).unlink()
    write_text_atomic(note, made_from + "\n")


def _seen_through(policy: Any, settings: Mapping[str, Any], seed: int) -> Controller:
    """The policy behind the meters that the settings give it."""
    noise, missing = (settings.get(key, 0.0) for key in AFTERWARDS)
    if not noise and not missing:
        return policy
    scale = policy.policy.features.scale.cpu()
    return Disturbed(policy, torch.where(scale > 0, 1 / scale.clamp(min=1e-12), 0.0), noise, missing, seed)


def _memory() -> dict[str, float | None]:
    """Most memory this process has held so far, MiB: resident, and on the GPU; None where it cannot be told."""
    try:
        import resource
    except ImportError:  # Windows
        peak = None
    else:
        unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
        peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
    on_gpu = round(torch.cuda.max_memory_allocated() / 2**20, 1) if torch.cuda.is_available() else None
    return {"memory_mb": peak, "gpu_memory_mb": on_gpu}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one seed of one variant and leave its rows.

    Exit status 0, or 1 after a one-line error on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m thesis_lib.analysis.learner", description=main.__doc__)
    parser.add_argument("variant", nargs="?", default="default", help="one of the profile's variants, of the learner")
    parser.add_argument(
        "--controller", choices=[CONTROLLER, *LEARNERS], default=CONTROLLER, help=f"default: {CONTROLLER}"
    )
    parser.add_argument("--profile", default="quick", help="configs/<profile>.yaml (default: quick)")
    parser.add_argument("--edition", choices=datasets.EDITIONS, help="default: the profile's")
    parser.add_argument("--seed", type=int, default=0, help="of weights, training windows and noise (default: 0)")
    given = parser.parse_args(arguments)
    try:
        if not 0 <= given.seed < 2**32:
            raise ConfigError(f"--seed {given.seed}: from 0 to {2**32 - 1}")
        config = load_config(given.profile)
        torch.set_num_threads(config.threads)
        data = datasets.find(given.edition or config.edition)
        label = f"{given.controller if given.variant == 'default' else given.variant}, seed {given.seed}"
        learn(
            config,
            given.variant,
            given.seed,
            data,
            controller=given.controller,
            say=lambda line: print(f"[{label}] {line}", flush=True),
        )
    except ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
