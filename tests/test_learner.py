"""A run is known by its recipe: what is done is only read, what changed is made again, and nothing else."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from thesis_lib import paths, provenance
from thesis_lib.analysis import evaluation, gap, gradients, learner, optimum, recheck
from thesis_lib.community import dataset
from thesis_lib.community.model import Community
from thesis_lib.community.observations import Observer
from thesis_lib.config import ConfigError, load_config
from thesis_lib.controllers.disturbed import Disturbed
from thesis_lib.controllers.rules import BusinessAsUsual
from thesis_lib.maddpg.algorithm import MADDPG
from thesis_lib.maddpg.captured import CapturedMADDPG, CapturedRun
from thesis_lib.maddpg.device import Device
from thesis_lib.maddpg.training import Run

CODE = '''"""What it is for."""


def double(x):
    """Twice."""
    return 2 * x  # twice
'''


@pytest.fixture(scope="module")
def data() -> dataset.Dataset:
    return dataset.find("auto")


# --- the recipe ---


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda text: text.replace("Twice", "Two times").replace("# twice", "# or x + x"), True),
        (lambda text: text.replace('    """Twice."""\n', ""), True),
        (lambda text: text.replace("2 * x", "( 2*x )"), True),
        (lambda text: text.replace("2 * x", "3 * x"), False),
        (lambda text: text.replace("double", "twofold"), False),
        (lambda text: text.replace("return 2 * x", 'return "2 * x"'), False),
        (lambda text: text.replace("return 2 * x", "return None"), False),
    ],
)
def test_code_counts_and_prose_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change, same: bool) -> None:
    monkeypatch.setattr(paths, "LIBRARY", tmp_path)
    file = tmp_path / "code.py"
    file.write_text(CODE)
    first = provenance.recipe({"a": 1}, [file])
    assert change(CODE) != CODE
    file.write_text(change(CODE))
    os.utime(file, (1, 1))
    assert (provenance.recipe({"a": 1}, [file]) == first) is same


def test_settings_and_names_of_files_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "LIBRARY", tmp_path)
    one, two, other = tmp_path / "one.py", tmp_path / "two.py", tmp_path / "table.json"
    one.write_text(CODE)
    two.write_text(CODE)
    other.write_text("{}")
    digests = [
        provenance.recipe(settings, files)
        for settings, files in (({"a": 1}, [one]), ({"a": 2}, [one]), ({"a": 1}, [two]), ({"a": 1}, [one, two]))
    ]
    assert len(set(digests)) == 4
    assert provenance.recipe({"a": 1, "b": 2}, [two, one]) == provenance.recipe({"b": 2, "a": 1}, [one, two, one])
    before = provenance.recipe({}, [other])
    other.write_text("{ }")
    assert provenance.recipe({}, [other]) != before


def test_another_python_that_adds_empty_fields_gives_the_same_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    before = provenance._structure(ast.parse(CODE))
    monkeypatch.setattr(ast.FunctionDef, "_fields", (*ast.FunctionDef._fields, "new_in_some_version"))
    tree = ast.parse(CODE)
    tree.body[1].new_in_some_version = []  # type: ignore[attr-defined]
    assert provenance._structure(tree) == before
    tree.body[1].new_in_some_version = [ast.Pass()]  # type: ignore[attr-defined]
    assert provenance._structure(tree) != before


def test_what_a_policy_depends_on(data: dataset.Dataset) -> None:
    names = {file.name for file in learner.code()}
    bad_meters = {file.name for file in learner.code(settings={"observation_noise": 0.1, "observation_missing": 0.0})}
    good_meters = learner.code(settings={"observation_noise": 0.0, "observation_missing": 0.0})
    assert bad_meters - names == {"disturbed.py"} and good_meters == learner.code()
    assert {"algorithm.py", "networks.py", "training.py", "guard.py", "replay.py"} <= names
    config = load_config("test")
    usual = learner.recipe(config, "none", 0, data)
    assert learner.recipe(config, "none", 1, data) != usual
    assert learner.recipe(config, "horizon_0", 0, data) != usual
    assert learner.recipe(config, "none", 0, data, end=72) != usual
    assert learner.recipe(config, "none", 0, data, overrides={"updates": 3}) != usual
    assert learner.recipe(config, "none", 0, data, overrides={"updates": config.train["updates"]}) == usual
    assert learner.recipe(load_config("test", language="es"), "none", 0, data) == usual


def test_a_gpu_is_driven_otherwise_and_rows_count_on_either(monkeypatch: pytest.MonkeyPatch) -> None:
    assert learner.run_on("cpu") is Run
    monkeypatch.setattr(learner.devices, "resolve", lambda device: Device(f"{device}:0", "a GPU", 80.0))
    assert learner.run_on("cuda") is CapturedRun
    driver = paths.LIBRARY / "maddpg" / "captured.py"
    assert driver.is_file() and driver not in learner.code()
    # So it may change no formula: of the update only the step down a loss is its own, whose number it must not read.
    changed = {name for name in set(vars(CapturedMADDPG)) & set(vars(MADDPG)) if not name.startswith("__")}
    assert changed == {"_descend"}


def test_variants_that_only_see_differently_share_a_training() -> None:
    config = load_config("test")
    assert learner.trained_as(config, "headline") == "announce" and learner.trained_as(config, "none") == "none"
    noisy = config.model_copy(
        update={
            "variants": {"headline": {}, "noisy": {"observation_noise": 0.1}, "lossy": {"observation_missing": 0.1}},
        }
    )
    assert {learner.trained_as(noisy, name) for name in noisy.variants} == {"headline"}


# --- one run ---


def test_a_run_is_trained_once_and_read_ever_after(data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("test", engines=["model"], variants={"broadcast": {}, "twin": {}})
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    trained, said = [], []
    real = learner.train
    monkeypatch.setattr(learner, "train", lambda *args, **named: trained.append(named["seed"]) or real(*args, **named))
    rows = learner.learn(config, "broadcast", 0, data, end=48, say=said.append)
    assert trained == [0] and set(rows["variant"]) == {"broadcast"}
    folder = paths.run("test", data.edition, learner.CONTROLLER, "broadcast", 0)
    names = ["flows.csv.gz", "homes.csv", "hourly.csv.gz", "kpis.csv", "run.json", "training.csv", "weekly.csv"]
    assert sorted(file.name for file in folder.iterdir()) == names
    record = json.loads((folder / "run.json").read_text())
    assert record["recipe"] == learner.recipe(config, "broadcast", 0, data, end=48)
    assert record["training"]["updates"] == config.train["updates"] and record["homes"] == 17
    assert record["training"]["memory_mb"] is None or record["training"]["memory_mb"] > 50
    assert pd.read_csv(folder / "training.csv")["variant"].unique() == ["broadcast"]

    checkpoints = paths.checkpoints("test", data.edition, learner.CONTROLLER, "broadcast", 0)
    log = (checkpoints / "log.csv").read_bytes()
    shutil.move(checkpoints, tmp_path / "elsewhere")  # a fresh clone has the rows and no checkpoint
    again = learner.learn(config, "broadcast", 0, data, end=48, say=said.append)
    assert trained == [0] and "its rows are there" in said[-1]
    pd.testing.assert_frame_equal(again, rows, check_dtype=False)

    shutil.move(tmp_path / "elsewhere", checkpoints)
    learner.learn(config, "twin", 0, data, end=48, say=said.append)  # asks for a training that is finished
    assert (checkpoints / "log.csv").read_bytes() == log
    assert not paths.checkpoints("test", data.edition, learner.CONTROLLER, "twin", 0).exists()

    # Another recipe: neither rows nor checkpoint are taken for its own.
    assert learner.outdated(config, data, end=48) == {}
    learner.learn(config, "broadcast", 0, data, overrides={"updates": 1}, end=48, say=said.append)
    assert learner.outdated(config, data, end=48) == {"broadcast": [0]}
    assert any("training starts anew" in line for line in said)
    assert json.loads((folder / "run.json").read_text())["training"]["updates"] == 1


def test_rows_count_on_where_new_code_makes_the_same(
    data: dataset.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config("test", engines=["model"], variants={"broadcast": {}}, seeds=[0, 1])
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    folders = [paths.run("test", data.edition, learner.CONTROLLER, "broadcast", seed) for seed in config.seeds]
    today = [learner.recipe(config, "broadcast", seed, data, end=48) for seed in config.seeds]
    for seed in config.seeds:
        learner.learn(config, "broadcast", seed, data, end=48, say=str)
    said: list[str] = []

    def age() -> None:
        """As if other code had made the rows; its checkpoints are not there."""
        for folder in folders:
            record = json.loads((folder / "run.json").read_text())
            (folder / "run.json").write_text(json.dumps(record | {"recipe": "of other code"}))
        shutil.rmtree(tmp_path / "checkpoints")

    def check(**changed: Any) -> bool:
        return recheck.recheck(config.model_copy(update=changed), "broadcast", data, end=48, say=said.append)

    assert check() and "2 runs, all of today's code" in said[-1]
    age()
    assert check() and "1 other seeds count as well" in said[-1]
    records = [json.loads((folder / "run.json").read_text()) for folder in folders]
    assert [record["recipe"] for record in records] == today
    assert "again" not in records[1] and records[0]["again"]["seed"] == 1 and "commit" in records[0]["again"]

    with pytest.raises(evaluation.EvaluationError, match="seed 0: other settings than the profile's"):
        age()
        check(train=config.train | {"discount": 0.5})
    rows = (folders[1] / "kpis.csv").read_text()
    (folders[1] / "kpis.csv").write_text(rows.replace("cost", "price", 1))
    folders.append(paths.run("test", data.edition, evaluation.REFERENCE, "default", 0))  # made anew too, if it is old
    (folders[2] / "run.json").write_text(json.dumps({"recipe": "of other code"}))
    before = {file: file.read_bytes() for folder in folders for file in folder.iterdir()}
    assert not check() and "differs in kpis.csv: nothing is kept" in said[-1]
    assert {file: file.read_bytes() for file in (tmp_path / "results").rglob("*.*") if file.is_file()} == before


def test_a_recheck_killed_while_it_puts_rows_back_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, folder = tmp_path / "copy", tmp_path / "runs" / "seed_0"
    for place, text in ((copy, "old"), (folder, "new")):
        place.mkdir(parents=True)
        (place / "kpis.csv").write_text(text)

    def kill(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", kill)
        recheck._put_back(copy, folder)
    assert [file.read_text() for file in folder.parent.rglob("kpis.csv")] == ["old"]
    folder.mkdir()
    recheck._put_back(copy, folder)
    assert [file.relative_to(folder.parent).as_posix() for file in folder.parent.rglob("*.csv")] == ["seed_0/kpis.csv"]


def test_a_training_without_time_for_an_update_is_told(data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("test", engines=["model"])
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    with pytest.raises(evaluation.EvaluationError, match="raise train.minutes"):
        learner.learn(config, "broadcast", 0, data, overrides={"minutes": 1e-9}, end=48, say=lambda line: None)


def test_a_compiler_that_is_missing_is_told_before_anything_is_done(
    data: dataset.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config("test", engines=["model"])
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="no no-such-compiler: install it, name yours in CXX, or set compile: false"):
        learner.learn(config, "broadcast", 0, data, overrides={"compile": True}, end=48, say=str)
    assert not list(tmp_path.iterdir())


def test_the_command_tells_what_it_cannot_do_in_one_line(capsys: pytest.CaptureFixture) -> None:
    for variant, profile, says in (("loud", "test", "no variant 'loud'"), ("none", "x", "no profile 'x'")):
        assert learner.main([variant, "--profile", profile]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and says in error and error.count("\n") == 1
    for seed in (-1, 2**32):
        assert learner.main(["none", "--profile", "test", "--seed", str(seed)]) == 1
        assert capsys.readouterr().err == f"error: --seed {seed}: from 0 to 4294967295\n"


def test_a_training_that_diverges_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def diverge(*args: object, **named: object) -> None:
        raise FloatingPointError("the loss is nan: lower the learning rates")

    for command, step in ((learner, "learn"), (gap, "measure"), (gradients, "measure"), (recheck, "recheck")):
        monkeypatch.setattr(command, step, diverge)
        assert command.main(["none", "--profile", "test"] if step == "learn" else ["--profile", "test"]) == 1
        assert capsys.readouterr().err == "error: the loss is nan: lower the learning rates\n"


# --- bad meters ---


class Echo:
    """Keeps what it sees."""

    def reset(self, community: Community) -> None:
        self.seen: list[torch.Tensor] = []

    def act(self, observations: torch.Tensor) -> torch.Tensor:
        self.seen.append(observations)
        return observations[..., :3]


@pytest.fixture(scope="module")
def community(data: dataset.Dataset) -> Community:
    return Community.from_citylearn(dataset.load(data, end=200), dtype=torch.float64)


def through(community: Community, noise: float, missing: float, hours: int = 60, seed: int = 0):
    """What was there and what came through: (hours, B, H, O) twice, and the (H, O) metered places."""
    echo = Echo()
    deviation = torch.ones(community.homes, max(map(len, community.observation_names)))
    meters = Disturbed(echo, deviation, noise, missing, seed)
    meters.reset(community)
    observer, rule = Observer(community), BusinessAsUsual()
    rule.reset(community)
    state, true = community.reset(2, 0), []
    for _ in range(hours):
        true.append(observer(state))
        meters.act(true[-1])
        state, _ = community.step(state, rule.act(true[-1]))
    return torch.stack(true), torch.stack(echo.seen), meters


def test_only_meters_err_and_by_as_much_as_asked(community: Community) -> None:
    true, seen, meters = through(community, 0.1, 0.0)
    names = community.observation_names[0]
    assert {names[i] for i in meters.metered[0].nonzero().flatten() if "charger" not in names[i]} == {
        "non_shiftable_load", "solar_generation", "net_electricity_consumption", "electrical_storage_soc"
    }  # fmt: skip
    assert torch.equal(true[..., ~meters.metered], seen[..., ~meters.metered])
    net = [home.index("net_electricity_consumption") for home in community.observation_names]
    error = (seen - true)[:, :, range(community.homes), net]
    assert error.std() == pytest.approx(0.1, rel=0.1) and abs(error.mean()) < 0.01
    soc = seen[..., meters.bounded]
    assert soc.max() <= 1 and torch.equal(soc < 0, true[..., meters.bounded] < 0)


def test_lost_readings_are_the_last_ones(community: Community) -> None:
    true, seen, meters = through(community, 0.0, 0.3)
    held = (seen[1:] == seen[:-1])[..., meters.metered]
    fresh = (seen == true)[1:][..., meters.metered]
    assert (held | fresh).all()
    load = [home.index("non_shiftable_load") for home in community.observation_names]
    stale = (seen != true)[1:, :, range(community.homes), load]
    assert stale.double().mean() == pytest.approx(0.3, abs=0.04)


def test_good_meters_change_nothing_and_errors_repeat(community: Community) -> None:
    true, seen, _ = through(community, 0.0, 0.0, hours=5)
    assert torch.equal(true, seen)
    assert torch.equal(through(community, 0.2, 0.2, 5, seed=3)[1], through(community, 0.2, 0.2, 5, seed=3)[1])
    with pytest.raises(ValueError, match="missing in"):
        Disturbed(Echo(), torch.ones(1), 0.0, 1.0, 0)


# --- the pipeline ---


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's files anew, as a clone has them: all of one age, and no records of Snakemake."""
    root = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=paths.ROOT, capture_output=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (paths.ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(paths.ROOT / name, root / name)
    return root


def dry_run(root: Path, profile: str) -> str:
    """What a dry run of the pipeline says."""
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--rerun-triggers", "mtime"]
    answer = subprocess.run(
        [*command, "--config", f"profile={profile}"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr + answer.stdout
    return answer.stdout


def planned(root: Path, profile: str = "test") -> dict[str, int]:
    """Rule -> number of jobs that a dry run announces."""
    lines = [line.split() for line in dry_run(root, profile).splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit() and line[0] != "total"}


def test_the_claims_wait_for_the_ablations_rows_of_a_fresh_clone(clone: Path, data: dataset.Dataset) -> None:
    lines = dry_run(clone, "test").splitlines()
    read = lines[lines.index("rule claims:") + 1]
    runs = evaluation.runs("ablations", data.edition)
    assert all((run.folder / "run.json").relative_to(paths.ROOT).as_posix() in read for run in runs)


@pytest.mark.parametrize("variant", [optimum.BOUND, optimum.REPLAY])
def test_the_optimum_is_computed_again_if_either_of_its_rows_is_old(clone: Path, official: Any, variant: str) -> None:
    folder = paths.run("thesis", official.edition, optimum.CONTROLLER, variant, 0).relative_to(paths.ROOT)
    file = clone / folder / "run.json"
    committed = file.read_text()
    file.write_text(json.dumps(json.loads(committed) | {"recipe": "of other code"}))
    try:
        assert planned(clone, "thesis")["optimum"] == 1
    finally:
        file.write_text(committed)


def test_rows_of_todays_recipe_are_not_made_again(clone: Path, data: dataset.Dataset) -> None:
    config = load_config("test")
    seeds = {name: config.seeds if name == "random" else [0] for name in config.controllers}
    runs = [(name, "default", seed) for name, own in seeds.items() for seed in own]
    runs += [(learner.CONTROLLER, variant, seed) for variant in config.variants for seed in config.seeds]
    runs += [(name, "default", seed) for name in config.learners for seed in config.seeds]
    everything = planned(clone)
    assert everything["compared_learner"] == len(config.learners) * len(config.seeds) == 4
    assert everything["learner"] == len(config.variants) * len(config.seeds)
    assert everything["controller"] == sum(map(len, seeds.values()))

    for name, variant, seed in runs:
        folder = clone / paths.run("test", data.edition, name, variant, seed).relative_to(paths.ROOT)
        folder.mkdir(parents=True)
        made_from = (
            learner.recipe(config, variant, seed, data, controller=name)
            if name == learner.CONTROLLER or name in config.learners
            else evaluation.recipe_of(name, seed, data, config.engines, evaluation.settings_of(name, seed))
        )
        for file in evaluation.FILES:
            (folder / file).write_text(json.dumps({"recipe": made_from}))
    for file in (clone / "results").rglob("*"):
        os.utime(file, (10**9, 10**9))  # older than the code
    code = clone / "thesis_lib" / "maddpg" / "algorithm.py"
    code.write_text(code.read_text() + "\n# A remark.\n")
    jobs = planned(clone)
    assert not {"learner", "compared_learner", "controller"} & set(jobs) and jobs["baselines"] == 1

    code.write_text(code.read_text() + "\nREMARK = 1\n")
    jobs = planned(clone)
    assert jobs["learner"] == everything["learner"] and "controller" not in jobs
    assert jobs["compared_learner"] == everything["compared_learner"]  # they are made of the same parts
    rule = clone / "thesis_lib" / "controllers" / "rules.py"
    rule.write_text(rule.read_text() + "\nREMARK = 1\n")
    assert planned(clone) == everything
