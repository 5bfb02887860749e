"""The environment, the repository and the rules every file keeps."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import thesis_lib
from thesis_lib import paths, provenance

FORBIDDEN = {"openstudio", "torchvision", "torchaudio", "doe-xstock"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    return {
        normal(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE)
    }


def read(name: str) -> str:
    return (paths.ROOT / name).read_text(encoding="utf-8")


LOCK = pins(read("requirements.lock"))
TORCH = pins(read("requirements-torch.txt"))
PROJECT = tomllib.loads(read("pyproject.toml"))["project"]
DIRECT = [
    normal(re.split(r"[<>=!~ ;\[]", requirement)[0])
    for requirement in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
]


def test_lock_pins_every_direct_dependency_with_hashes_and_names_no_host():
    text = read("requirements.lock")
    assert set(DIRECT) <= set(LOCK)
    assert LOCK["citylearn"] == "3.0.2"
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(LOCK) > 100
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"://|--index|--extra-index|--find-links|--trusted-host", text)
    assert text.endswith(read("requirements-nodeps.txt")), "run `make lock`"


def test_the_services_own_lock_is_part_of_the_lock_and_small():
    text = read("requirements-serve.lock")
    served = pins(text)
    assert served.items() <= LOCK.items()
    assert {pin.split(";")[0].strip() for pin in read("requirements-serve.in").splitlines() if pin[0] != "#"} <= set(
        served
    )
    assert not {"torch", "citylearn", "pandas", "onnx", "onnxscript", "scipy", *FORBIDDEN} & set(served)
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(served) < 40 and all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"://|--index|--extra-index|--find-links|--trusted-host", text)


def test_torch_is_pinned_exactly_and_apart():
    assert TORCH == {"torch": "2.13.0"}
    assert "hash" not in read("requirements-torch.txt")
    assert not {"torch", *FORBIDDEN} & set(LOCK)
    assert not [name for name in LOCK if name.startswith("nvidia")]


def test_installed_as_locked():
    installed = {normal(found.metadata["Name"]) for found in importlib.metadata.distributions()}
    assert not FORBIDDEN & installed
    for name in [*DIRECT, "citylearn"]:
        if name not in {"pip-tools", "setuptools"}:
            assert importlib.metadata.version(name) == LOCK[name], name
    torches = [
        found for found in importlib.metadata.distributions() if normal(found.metadata["Name"]) == "torch"
    ]
    assert [found.version.split("+")[0] for found in torches] == [TORCH["torch"]]


def test_nothing_but_citylearn_declares_what_is_missing():
    answer = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert [
        line for line in answer.stdout.splitlines() if not line.startswith(("citylearn ", "No broken"))
    ] == []


def test_conda_pins_are_those_of_the_lock():
    text = read("environment.yml")
    entries = yaml.safe_load(text)["dependencies"]
    with_pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    conda = dict(entry.split("=") for entry in entries if isinstance(entry, str) and "=" in entry)
    assert conda.pop("python") == "3.11"
    conda["matplotlib"] = conda.pop("matplotlib-base")  # conda's name for it without a GUI
    pip = pins("\n".join(with_pip))
    assert len(pip) == len(with_pip)
    assert TORCH.items() <= pip.items()
    pip.pop("torch")
    assert not set(conda) & set(pip)
    assert {normal(name): version for name, version in conda.items()} | pip == {
        name: LOCK[name] for name in DIRECT
    }
    assert all(f" {name}=={LOCK[name]} " in text for name in ("citylearn", "stable-baselines3"))


def test_one_test_command_everywhere():
    assert "make test\n" in read("README.md")
    assert "make quick\n" in read("README.md")
    commands = [line for line in read(".ci/run").splitlines() if line and not line.startswith("#")]
    assert commands == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "exec make test"]
    assert ".ci/run" in read(".github/workflows/ci.yml")


def tracked() -> list[Path]:
    answer = subprocess.run(
        ["git", "ls-files", "-z"], cwd=paths.ROOT, capture_output=True, text=True, check=True
    )
    return [paths.ROOT / name for name in answer.stdout.split("\0") if name and (paths.ROOT / name).is_file()]


def test_no_path_of_a_machine_and_no_large_file():
    machine = re.compile(r"(?<![\w.*~/-])/(?:home|root|Users|work|mnt|tmp|opt)/\w|[A-Za-z]:\\\\?Users")
    for file in tracked():
        assert file.stat().st_size < 1_500_000 or file.suffix in {".pt", ".onnx"}, f"{file} is large"
        if file.suffix in {
            ".py",
            ".md",
            ".yaml",
            ".yml",
            ".toml",
            ".ipynb",
            ".json",
            ".csv",
            ".ps1",
            ".lock",
            "",
        }:
            found = machine.search(file.read_text(encoding="utf-8"))
            assert not found or file == Path(__file__), f"{file} names {found and found.group()}"


def modules() -> list[str]:
    return [found.name for found in pkgutil.walk_packages(thesis_lib.__path__, "thesis_lib.")]


def public(module: Any) -> Iterator[tuple[str, Any]]:
    """Every public function, class and method that the module defines."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            yield name, value
            for attribute, member in vars(value).items():
                member = getattr(member, "__func__", getattr(member, "fget", member))
                if not attribute.startswith("_") and inspect.isfunction(member):
                    yield f"{name}.{attribute}", member


@pytest.mark.parametrize("name", modules())
def test_public_names_are_documented_and_typed(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    for label, value in public(module):
        assert inspect.getdoc(value), f"{name}.{label} has no docstring"
        if inspect.isfunction(value):
            signature = inspect.signature(value)
            untyped = [
                parameter.name
                for parameter in signature.parameters.values()
                if parameter.annotation is parameter.empty and parameter.name not in {"self", "cls"}
            ]
            assert not untyped, f"{name}.{label}: no type for {untyped}"
            assert signature.return_annotation is not signature.empty, f"{name}.{label}: no return type"


@pytest.mark.parametrize("name", ["../thesis", "a/b", "", ".hidden", "C:\\x"])
def test_a_name_cannot_leave_its_folder(name):
    with pytest.raises(ValueError, match="cannot name a folder"):
        paths.results(name)


def test_a_failed_write_keeps_the_earlier_file(tmp_path):
    target = provenance.write_json_atomic(tmp_path / "new" / "run.json", {"cost": 1.0})
    with pytest.raises(ValueError):
        provenance.write_json_atomic(target, {"cost": float("nan")})
    with pytest.raises(RuntimeError), provenance.replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(target.read_text()) == {"cost": 1.0}
    assert [file.name for file in target.parent.iterdir()] == ["run.json"]


def test_compressed_tables_are_the_same_bytes_every_time(tmp_path):
    frame = pd.DataFrame({"hour": [0, 1], "net": [0.5, -1.25]})
    first = provenance.write_csv_atomic(tmp_path / "a.csv.gz", frame).read_bytes()
    second = provenance.write_csv_atomic(tmp_path / "b.csv.gz", frame).read_bytes()
    assert first == second
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv.gz"), frame)


def test_an_unwritable_folder_is_told_in_one_line(tmp_path):
    (tmp_path / "results").write_text("a file where a folder should be")
    with pytest.raises(provenance.NotWritableError) as caught:
        provenance.ensure_writable(tmp_path / "results" / "quick")
    assert "\n" not in str(caught.value) and "cannot be written" in str(caught.value)


def test_the_record_of_a_run():
    stopwatch = provenance.Stopwatch()
    for _ in range(2):
        with stopwatch("evaluation"):
            sum(range(1000))
    record = provenance.run_record({"seeds": [0, 1], "profile": "quick"}, stages=stopwatch, controller="rule")
    assert json.loads(json.dumps(record)) == record
    assert record["packages"]["citylearn"] == "3.0.2"
    assert record["lock_sha256"] == provenance.sha256(paths.lock())
    assert record["stages"]["evaluation"].keys() == {"wall_s", "cpu_s"}
    assert record["seeds"] == [0, 1] and record["controller"] == "rule"
    assert record["git"].keys() == {"commit", "dirty"}
