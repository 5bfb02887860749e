"""After a change of code that should change no number: train one seed of each variant again, and keep the others' rows.

    python -m thesis_lib.analysis.recheck --profile thesis
    python -m thesis_lib.analysis.recheck --profile thesis announce independent_td3

Any change of a learner's code makes the rows of its runs out of date (see `provenance.recipe`), also one that decides
no number on this machine, such as where a tensor lives. Here the last seed of a variant is made anew (the first is the
one that is exported). If its rows and its training are the same to the last digit, those of the variant's other seeds
count as made by today's code, and their run.json says so under ``again``. If not, the old rows stay, out of date: then
all of them have to be made anew.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from thesis_lib import paths
from thesis_lib.analysis import evaluation, learner
from thesis_lib.analysis.evaluation import REFERENCE, EvaluationError, Finished
from thesis_lib.community import dataset as datasets
from thesis_lib.community.dataset import Dataset
from thesis_lib.config import Config, load_config
from thesis_lib.controllers import LEARNERS
from thesis_lib.provenance import git_state, write_json_atomic

TOLD_APART = ("run.json", "training.csv")  # say when and how long; whatever else a run leaves has to be the same


def recheck(
    config: Config,
    name: str,
    data: Dataset,
    *,
    end: int | None = None,
    say: Callable[[str], None] = print,
) -> bool:
    """Hold one run of a variant against today's code.

    Args:
        config: the profile.
        name: one of its variants, or one of the learners compared with ours.
        data: the edition.
        end: as of `learner.learn`.
        say: takes one line per validation, and what came of it.

    Returns:
        True if the variant's rows are of today's code now; False without rows, or if a number differs: then all rows
        are as they were, those of business as usual too, which are made anew before if they are of other code.

    Raises:
        ConfigError: no such variant.
        EvaluationError: other settings or data than those of the rows; whatever `learner.learn` raises.
    """
    controller, variant = (name, "default") if name in LEARNERS else (learner.CONTROLLER, name)
    settings = {"train": learner.settings_of(config, variant, controller)}

    def today(run: Finished) -> str:
        return learner.recipe(config, variant, run.seed, data, controller=controller, end=end)

    found = evaluation.runs(config.profile, data.edition, controller, variant)
    if not found:
        say(f"{name}: no runs to hold against today's code")
        return False
    old = [run for run in found if evaluation.recorded_recipe(run.folder) != today(run)]
    if not old:
        say(f"{name}: {len(found)} runs, all of today's code")
        return True
    wanted = {"settings": settings, "checksums": dict(data.checksums), "engines": list(config.engines), "end": end}
    for run in old:
        record = run.record()
        if other := [key for key, value in wanted.items() if record[key] != value]:
            raise EvaluationError(f"{name}, seed {run.seed}: other {', '.join(other)} than the profile's: make it anew")
    *rest, chosen = old
    homes = settings["train"].get("replicate", 0)
    usual = paths.run(config.profile, data.edition, REFERENCE, evaluation.variant_of(homes), 0)
    made_anew = [chosen.folder]
    usual_today = evaluation.recipe_of(REFERENCE, 0, data, config.engines, homes=homes, end=end)
    if usual.is_dir() and evaluation.recorded_recipe(usual) != usual_today:
        made_anew.append(usual)
    with tempfile.TemporaryDirectory() as kept:
        before = [shutil.copytree(folder, Path(kept) / str(n)) for n, folder in enumerate(made_anew)]
        same = False
        try:
            learner.learn(config, variant, chosen.seed, data, controller=controller, end=end, say=say)
            old_rows, new_rows = _rows(before[0]), _rows(chosen.folder)
            # a file that runs leave only now has nothing to differ from
            different = [file for file, held in old_rows.items() if held != new_rows.get(file)]
            if not _training(before[0]).equals(_training(chosen.folder)):
                different.append("training.csv")
            same = not different
        finally:
            if not same:  # another number, an error, Ctrl-C
                for copy, folder in zip(before, made_anew, strict=True):
                    _put_back(copy, folder)
    if not same:
        say(f"{name}: seed {chosen.seed} made again differs in {', '.join(different)}: nothing is kept, make all anew")
        return False
    for run in rest:
        again: dict[str, Any] = {"seed": chosen.seed, **git_state()}
        write_json_atomic(run.folder / "run.json", run.record() | {"recipe": today(run), "again": again})
    say(f"{name}: seed {chosen.seed} made again is the same to the last digit; {len(rest)} other seeds count as well")
    return True


def _put_back(copy: Path, folder: Path) -> None:
    """Give a folder what it held; killed on the way, it lies whole beside, as ``.<name>.before``."""
    beside = folder.with_name(f".{folder.name}.before")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(copy, beside)
    shutil.rmtree(folder)
    os.replace(beside, folder)


def _rows(folder: Path) -> dict[str, bytes]:
    files = {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name not in TOLD_APART}
    return {name: gzip.decompress(held) if name.endswith(".gz") else held for name, held in files.items()}


def _training(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "training.csv").drop(columns="seconds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Hold the runs of a profile against today's code, one seed of each variant.

    Exit status 0; 1 if a number differs, or after a one-line error on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m thesis_lib.analysis.recheck", description=main.__doc__)
    parser.add_argument("names", nargs="*", help="variants, and learners compared with ours (default: all)")
    parser.add_argument("--profile", default="thesis", help="configs/<profile>.yaml (default: thesis)")
    parser.add_argument("--edition", choices=datasets.EDITIONS, help="default: the profile's")
    given = parser.parse_args(arguments)
    try:
        config = load_config(given.profile)
        torch.set_num_threads(config.threads)
        data = datasets.find(given.edition or config.edition)
        names = given.names or [*config.variants, *config.learners]
        same = [recheck(config, name, data, say=lambda line: print(line, flush=True)) for name in names]
    except learner.ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
