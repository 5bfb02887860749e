"""A policy to export and serve: the thesis' own settings at a small size, weights drawn instead of trained."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import numpy as np
import pytest
import torch
from conftest import find, model
from filelock import FileLock

from thesis_lib.community.observations import Observer
from thesis_lib.config import load_config
from thesis_lib.maddpg.household import household_of
from thesis_lib.maddpg.training import FORMAT, TrainConfig, build_policy, write_checkpoint
from thesis_lib.serving import export

GUARD = {"undisclosed_pace": 0.05, "spare_steps": 0, "tolerance": 0.04}


def checkpoint(path: Path, edition: str = "offline", seed: int = 0, **overrides: Any) -> Path:
    """A ``best.pt`` whose actors do something else in every home and every hour."""
    community = model(edition)
    settings = load_config("test").train_for("broadcast") | {"actor_units": 16} | overrides
    config = TrainConfig(**settings)
    observer, seen = Observer(community), []
    for start in range(0, 8000, 321):
        seen.append(observer(community.reset(1, start)).float())
    values = torch.cat(seen)
    torch.manual_seed(seed)
    household = household_of(community, **GUARD)
    policy = build_policy(config, community, household, values.mean(0), values.std(0))
    with torch.no_grad():
        policy.actors.weights[-1].mul_(10)
    about = {
        "format": FORMAT,
        "community": community.fingerprint,
        "config": config.model_dump(),
        "guard_settings": GUARD,
        "seed": seed,
        "updates": 0,
        "seconds": 0.0,
        "best": 1.0,
        "versions": {},
    }
    write_checkpoint(path, about | {"policy": policy.state_dict()})
    return path


def exported(factory: pytest.TempPathFactory) -> Path:
    """The folder of an exported policy (broadcast, offline edition), made once for all workers of a test run."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # of all workers of this run
    folder = shared / "served"
    with FileLock(shared / "served.lock"):
        if not (folder / "policy.onnx").is_file():
            best = checkpoint(shared / "best.pt")
            export.export(best, folder, find("offline"))
    return folder


def free_port() -> int:
    """A port of this test process's own, below those that systems give to clients: nobody takes it meanwhile."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for port in random.sample(range(10_000 + 500 * worker, 10_500 + 500 * worker), 500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise OSError("no port is free")


@contextmanager
def running(model_folder: Path, **settings: Any) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """The service as its users start it, in a process of its own, and a client of it.

    Its log goes to the file ``log``, where one is given.
    """
    log = settings.pop("log", None)
    port = settings.pop("port", None) or free_port()
    environment = os.environ | {f"THESIS_{name.upper()}": str(value) for name, value in settings.items()}
    # A file, not a pipe: one that nobody reads fills up, and the service would wait on it for ever.
    said = open(log, "w+") if log else tempfile.TemporaryFile("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "thesis_lib.serving.app", "--model", str(model_folder), "--host", "127.0.0.1"]
        + ["--port", str(port)],
        env=environment,
        stderr=said,
        text=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            for _ in range(600):
                try:
                    client.get("/health")
                    assert process.poll() is None, _read(said)  # or somebody else has answered
                    break
                except httpx.TransportError:
                    assert process.poll() is None, _read(said)
                    time.sleep(0.05)
            yield client, process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        said.close()


def _read(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def midsummer(edition: str = "offline") -> list[list[float]]:
    """What the homes see in some hour, as CityLearn's lists."""
    community = model(edition)
    seen = Observer(community)(community.reset(1, 5000))
    return [seen[0, home, : len(names)].tolist() for home, names in enumerate(community.observation_names)]


def packed(lists: list[list[float]]) -> np.ndarray:
    return np.concatenate(lists).astype(np.float32)[np.newaxis]
