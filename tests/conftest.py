"""Data shared by the tests: both editions, each loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from thesis_lib import paths
from thesis_lib.analysis import labels, page
from thesis_lib.community import dataset
from thesis_lib.community.model import Community


@cache
def find(edition: str) -> dataset.Dataset:
    """The edition's data, or a skip that says why it cannot be had here."""
    try:
        return dataset.find(edition)
    except dataset.DatasetNotFoundError as error:
        pytest.skip(str(error))


@cache
def model(edition: str, dtype: torch.dtype = torch.float64) -> Community:
    """The edition's whole year as a community model, built once for all tests."""
    return Community.from_citylearn(dataset.load(find(edition)), dtype=dtype)


def flat(value: object, name: str = "") -> dict[str, object]:
    """Every leaf of nested dicts and lists, such as a checkpoint, by its path."""
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in flat(part, f"{name}/{key}").items()}
    if isinstance(value, list):
        return {k: v for i, part in enumerate(value) for k, v in flat(part, f"{name}/{i}").items()}
    return {name: value}


def equal(one: object, other: object) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def official() -> dataset.Dataset:
    """The official edition, wherever it is found."""
    return find("official")


@pytest.fixture(params=["official", "offline"])
def edition(request: pytest.FixtureRequest) -> str:
    find(request.param)
    return request.param


@pytest.fixture
def english_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A checkout of its own to write to, figures in the page's style, words in English."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    page.use_style()
    labels.use("en")
    yield
    labels.use("en")
    plt.close("all")
