"""Data shared by the tests: both editions, each loaded once."""

from __future__ import annotations

from functools import cache

import pytest
import torch

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


@pytest.fixture(params=["official", "offline"])
def edition(request: pytest.FixtureRequest) -> str:
    find(request.param)
    return request.param
