"""A community of another size is the data set's own, home by home."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thesis_lib.analysis.evaluation import simulate
from thesis_lib.community import dataset
from thesis_lib.community.kpis import Service, evaluate
from thesis_lib.community.model import Community
from thesis_lib.community.observations import Observer
from thesis_lib.community.reading import read_environment
from thesis_lib.community.replication import replicated
from thesis_lib.community.splits import blocks
from thesis_lib.controllers.rules import BusinessAsUsual

HOURS = 24 * 6


@pytest.fixture(scope="module")
def whole():
    env = dataset.load(dataset.find("auto"))
    env.reset()
    return read_environment(env), Service.from_citylearn(env)


def built(whole, homes):
    reading, service = replicated(*whole, homes)
    return Community(reading, dtype=torch.float64), service


def test_as_many_homes_as_there_are_is_the_same_community(whole) -> None:
    own = Community(whole[0], dtype=torch.float64)
    same, service = built(whole, own.homes)
    assert same.fingerprint == own.fingerprint
    assert torch.equal(same.table, own.table) and torch.equal(same.index_table, own.index_table)
    assert service.sessions.equals(whole[1].sessions) and service.cycles.equals(whole[1].cycles)


@pytest.mark.parametrize("homes", [5, 40])
def test_each_home_lives_as_its_original_does(whole, homes: int) -> None:
    """Rolled side by side: cars and their chargers exactly, the net but for the load that was moved."""
    own, (copies, service) = Community(whole[0], dtype=torch.float64), built(whole, homes)
    assert copies.homes == homes and len(set(copies.home_names)) == homes
    first = simulate(own, BusinessAsUsual(), hours=HOURS)
    second = simulate(copies, BusinessAsUsual(), hours=HOURS)
    for place, (charger, home) in enumerate(zip(copies.charger_names, copies.charger_home.tolist(), strict=True)):
        old = own.charger_names.index(charger.split("_copy_")[0])
        assert home % own.homes == int(own.charger_home[old])
        np.testing.assert_allclose(second.chargers[:, place], first.chargers[:, old], atol=1e-6)
    for home in range(min(homes, own.homes)):  # the first round keeps its loads too
        np.testing.assert_array_equal(second.load[:, home], first.load[:, home])
        np.testing.assert_allclose(second.net[:, home], first.net[:, home], atol=1e-6)
    assert homes < own.homes or np.abs(second.load[:, 17:34] - first.load).max() > 0.1
    rows = evaluate(second, service).set_index(["split", "kpi"])["value"]
    assert rows["year", "ev_departures_met"] == evaluate(first, whole[1]).set_index(["split", "kpi"])["value"][
        "year", "ev_departures_met"
    ] or homes < own.homes
    assert rows["year", "ev_departures_count"] > 0


def test_no_load_leaves_its_split(whole) -> None:
    reading, _ = replicated(*whole, 40)
    for split in ("train", "validation", "test"):
        for start, stop in blocks(split):
            mine, theirs = reading.blocks["load"][start:stop, 17:34], whole[0].blocks["load"][start:stop]
            np.testing.assert_array_equal(np.sort(mine, 0), np.sort(np.roll(theirs, -1, axis=1), 0))


def test_every_home_sees_its_own_devices(whole) -> None:
    copies, _ = built(whole, 40)
    observer = Observer(copies)
    state = copies.reset(2, torch.tensor([100, 3000]), 5)
    seen = observer(state)
    assert seen.shape[1] == 40 and torch.isfinite(seen).all()
    own = Community(whole[0], dtype=torch.float64)
    original = Observer(own)(own.reset(2, torch.tensor([100, 3000]), 5))
    names = own.observation_names[0]
    moved = [names.index(n) for n in ("non_shiftable_load", "net_electricity_consumption")]
    kept = [place for place in range(len(names)) if place not in moved]
    assert torch.equal(seen[:, 17, kept], original[:, 0, kept])


def test_a_community_of_nobody_is_refused(whole) -> None:
    with pytest.raises(ValueError, match="at least one home"):
        replicated(*whole, 0)
