"""What made a result: the record every run leaves, and the writers that never leave half a file.

Every file a run leaves goes through one of the ``write_*_atomic`` functions: into a temporary file in the
same folder, then renamed over the old one, so that a reader sees the old file or the new one, never a part.
"""

from __future__ import annotations

import ast
import functools
import gzip
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pandas as pd
from pydantic import BaseModel

from thesis_lib import paths

if TYPE_CHECKING:
    from thesis_lib.community.dataset import Dataset

PACKAGES = (
    "torch",
    "citylearn",
    "numpy",
    "pandas",
    "scipy",
    "gymnasium",
    "scikit-learn",
    "highspy",
    "pydantic",
    "matplotlib",
)


class NotWritableError(OSError):
    """A folder in which results cannot be written; its text is one line that says what to do."""


def ensure_writable(folder: Path) -> Path:
    """Make the folder if need be and prove that a file can be written in it, before anything is computed.

    Args:
        folder: folder for results.

    Returns:
        The folder.

    Raises:
        NotWritableError: it cannot be made, or not be written.
    """
    probe = folder / f".writable-{uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise NotWritableError(
            f"Results cannot be written in {folder} ({error.strerror}): free it or change its permissions"
        ) from error
    return folder


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, renamed to ``path`` when the block ends well, removed if not.

    Args:
        path: the file to be written or replaced.

    Raises:
        OSError: the folder cannot be made or written; ``path`` keeps what it had.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")  # a process id is not unique among machines
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes_atomic(path: Path, data: bytes) -> Path:
    """Write bytes whole or not at all; returns the path. Raises OSError."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return path


def write_text_atomic(path: Path, text: str) -> Path:
    """Write UTF-8 text with ``\\n`` line ends, whole or not at all; returns the path. Raises OSError."""
    return write_bytes_atomic(path, text.encode("utf-8"))


def write_json_atomic(path: Path, data: Any) -> Path:
    """Write JSON (two spaces, keys as given), whole or not at all.

    Args:
        path: the file.
        data: what json can write, and paths, numpy scalars and pydantic models; no NaN.

    Returns:
        The path.

    Raises:
        ValueError: a NaN or an infinity in the data.
        TypeError: a value that JSON cannot hold.
        OSError: the file cannot be written.
    """
    return write_text_atomic(path, json.dumps(data, indent=2, allow_nan=False, default=_plain) + "\n")


def write_csv_atomic(path: Path, frame: pd.DataFrame, **to_csv: Any) -> Path:
    """Write a table as CSV (gzip if the name ends in ``.gz``), whole or not at all; same table, same bytes.

    Args:
        path: the file.
        frame: the table; its index is left out unless ``index=True``.
        **to_csv: for ``pandas.DataFrame.to_csv``.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written.
    """
    options: dict[str, Any] = {"index": False, "lineterminator": "\n"} | to_csv
    text: str = frame.to_csv(None, **options)
    data = text.encode("utf-8")
    return write_bytes_atomic(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recipe(settings: Mapping[str, Any], files: Iterable[Path]) -> str:
    """Digest of what a result is made from: settings, and the code it depends on.

    Results with the recipe of today need not be made again, whatever their files' times say: git gives all files the
    time of the checkout. Python counts by its syntax tree without docstrings and comments, so that prose is no
    reason to train again; any other file counts byte by byte.

    Args:
        settings: what JSON can hold; the order of keys does not matter.
        files: files of this package.

    Returns:
        SHA-256, in hexadecimal.

    Raises:
        OSError: a file cannot be read.
        SyntaxError: a file is no Python.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=_plain).encode())
    for file in sorted(set(files)):
        digest.update(f"{file.relative_to(paths.LIBRARY).as_posix()} {_code(file, file.stat().st_mtime_ns)}".encode())
    return digest.hexdigest()


@functools.cache
def _code(file: Path, modified: int) -> str:
    """Digest of one file as ``recipe`` counts it; ``modified`` is only there to be part of the cache's key."""
    if file.suffix != ".py":
        return sha256(file)
    return hashlib.sha256(repr(_structure(ast.parse(file.read_bytes()))).encode()).hexdigest()


def _structure(node: Any) -> Any:
    """A syntax tree as plain lists, docstrings and empty fields left out.

    ``ast.dump`` would give another text with another version of Python, which adds fields that stay empty.
    """
    if isinstance(node, list):
        return [_structure(part) for part in node]
    if not isinstance(node, ast.AST):
        return node
    fields = dict(ast.iter_fields(node))
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        fields["body"] = node.body[ast.get_docstring(node, clean=False) is not None :]
    return [type(node).__name__, *((name, _structure(part)) for name, part in fields.items() if part not in (None, []))]


class Stopwatch:
    """Wall and CPU seconds of each named stage of a run; a stage that runs again adds to what it had.

    >>> stopwatch = Stopwatch()
    >>> with stopwatch("evaluation"):
    ...     total = sum(range(10))
    >>> sorted(stopwatch.stages["evaluation"])
    ['cpu_s', 'wall_s']
    """

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the block as ``stage``, also when it fails; CPU seconds of this process, all threads."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            spent = self.stages.setdefault(stage, {"wall_s": 0.0, "cpu_s": 0.0})
            spent["wall_s"] += time.perf_counter() - wall
            spent["cpu_s"] += time.process_time() - cpu


def run_record(
    config: BaseModel | Mapping[str, Any],
    dataset: Dataset | None = None,
    stages: Stopwatch | Mapping[str, Mapping[str, float]] | None = None,
    *,
    seeds: list[int] | None = None,
    device: str = "cpu",
    **extra: Any,
) -> dict[str, Any]:
    """All that is needed to say what made a result, for ``run.json``.

    Args:
        config: the full configuration of the run.
        dataset: the edition of the community, with its verified checksums.
        stages: wall and CPU seconds (s) of each stage.
        seeds: the seeds of this run; those of the config if not given.
        device: the device used, as torch names it.
        **extra: further entries, such as the controller and the variant.

    Returns:
        A dict that JSON can hold.
    """
    settings = config.model_dump(mode="json") if isinstance(config, BaseModel) else dict(config)
    timed = stages.stages if isinstance(stages, Stopwatch) else stages or {}
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "lock_sha256": sha256(paths.lock()) if paths.lock().exists() else None,
        "python": platform.python_version(),
        "packages": versions(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_count": os.cpu_count(),
        "device": device_name(device),
        "edition": dataset.edition if dataset else None,
        "checksums": dict(dataset.checksums) if dataset else {},
        "seeds": settings.get("seeds") if seeds is None else seeds,
        "stages": {
            name: {key: round(value, 3) for key, value in spent.items()} for name, spent in timed.items()
        },
        "config": settings,
        **extra,
    }


def git_state() -> dict[str, Any]:
    """The commit and whether the tree differs from it, the outputs of runs left aside.

    Returns:
        ``{"commit": str | None, "dirty": bool | None}``; None outside a checkout or without git.
    """
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None}
    changes = _git("status", "--porcelain", "--", ".", ":(exclude)results", ":(exclude)figures")
    return {"commit": commit, "dirty": bool(changes)}


def versions() -> dict[str, str]:
    """The installed versions of the packages that results depend on, by name."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def cpu_name() -> str:
    """The processor's name, as well as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def device_name(device: str) -> str:
    """The device with the name of its GPU, as in ``cuda:0 (NVIDIA ...)``; others stay as they are."""
    if not str(device).startswith("cuda"):
        return str(device)
    import torch

    return f"{device} ({torch.cuda.get_device_name(torch.device(device))})"


def _git(*arguments: str) -> str | None:
    """What git answers in the repository, or None without git or outside a checkout."""
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=paths.ROOT, capture_output=True, text=True, check=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def _plain(value: Any) -> Any:
    """What JSON can hold for a value it does not know."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
