"""The learner's privileges are what they are called, and each run leaves its rows once."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import find, model

from thesis_lib import paths
from thesis_lib.analysis import gap, gap_figures, gradients
from thesis_lib.community.observations import column
from thesis_lib.community.splits import split_of_rows
from thesis_lib.config import load_config
from thesis_lib.controllers.rules import BusinessAsUsual
from thesis_lib.maddpg.training import TrainConfig


@pytest.fixture(scope="module")
def world() -> gap.PrivilegedWorld:
    settings = TrainConfig(**(load_config("test").train | {"augment": False}))
    return gap.PrivilegedWorld(model("offline", torch.float32), BusinessAsUsual(), gap.VARIANTS["everything"], settings)


def test_forecasts_are_the_means_of_what_comes_and_the_view_is_every_homes(world: gap.PrivilegedWorld) -> None:
    c = world.community
    state, window = world.draw(3, 5, torch.Generator().manual_seed(0))
    row = state.row + 4
    seen = world.observe(state._replace(row=row), window[4])
    names = world.observation_names
    for home in (0, c.homes - 1):
        for first, stop in gap.AHEAD:
            ahead = [c.read(row + hour) for hour in range(first, stop)]
            net = torch.stack([rows.load - rows.pv for rows in ahead]).mean(0)
            price = torch.stack([c.price(rows) for rows in ahead]).mean(0)[:, 0]
            told = {name: seen[:, home, names[home].index(f"{name}_{first}")] for name in _TOLD}
            assert torch.allclose(told["net_ahead"], net[:, home], atol=1e-4)
            assert torch.allclose(told["direct_district_ahead"], net.sum(1), atol=1e-3)
            assert torch.allclose(told["electricity_pricing_ahead"], price, atol=1e-5)
    own = column(c, 2, "non_shiftable_load")
    view = seen[:, :, names[0].index(f"direct_view_2_{own}")]
    assert torch.equal(view, seen[:, 2:3, own].expand_as(view))
    assert len(names[0]) == seen.shape[2] and len(set(map(len, names))) == 1


def test_memories_are_the_means_of_what_was_and_cars_can_still_be_charged() -> None:
    settings = TrainConfig(**(load_config("test").train | {"augment": False}))
    world = gap.PrivilegedWorld(model("offline", torch.float32), BusinessAsUsual(), gap.VARIANTS["memory"], settings)
    c = world.community
    state, window = world.draw(3, 5, torch.Generator().manual_seed(0))
    assert len(window) == 6
    later = state._replace(row=state.row + 4)
    seen = world.observe(later, window[4])
    names = world.observation_names[7]
    for first, stop in gap.AHEAD:
        past = [c.read(later.row - hour) for hour in range(first, stop)]
        net = torch.stack([rows.load - rows.pv for rows in past]).mean(0)
        assert torch.allclose(seen[:, 7, names.index(f"net_past_{first}")], net[:, 7], atol=1e-4)
        assert torch.allclose(seen[:, 7, names.index(f"direct_district_past_{first}")], net.sum(1), atol=1e-3)
    present = c.read(state.row)
    assert torch.equal(state.net, present.load - present.pv) and torch.equal(state.next_cycle, present.alive)
    connected, gain = world.margin_guard.margins(world.observer(state, window[0].rows))
    assert (connected * gain).max() < 1e-3  # no car is behind
    heard: list[torch.Tensor] = []

    class Listener(BusinessAsUsual):
        def act(self, observations: torch.Tensor) -> torch.Tensor:
            heard.append(observations)
            return super().act(observations[..., : world.width])

    assert next(world._run(Listener(), state.row, 1))  # where policies are judged
    told = world.observe(state, window[0])
    assert torch.allclose(heard[0][..., world.width :], told[..., world.width :], atol=1e-4)


def test_one_kind_of_forecast_is_told_alone() -> None:
    settings = TrainConfig(**(load_config("test").train | {"augment": False}))
    args = (model("offline", torch.float32), BusinessAsUsual())
    told = {}
    for name in ("forecasts", "district_ahead"):
        world = gap.PrivilegedWorld(*args, gap.VARIANTS[name], settings)
        state, window = world.draw(2, 3, torch.Generator().manual_seed(0))
        seen, names = world.observe(state, window[0]), world.observation_names[5]
        told[name] = {kind: seen[:, 5, at] for at, kind in enumerate(names) if "_ahead_" in kind}
    assert list(told["district_ahead"]) == [f"direct_district_ahead_{first}" for first, _ in gap.AHEAD]
    for kind, values in told["district_ahead"].items():
        assert torch.equal(values, told["forecasts"][kind])


_TOLD = ("net_ahead", "direct_district_ahead", "electricity_pricing_ahead")


def test_windows_lie_in_the_split_they_are_asked_of(world: gap.PrivilegedWorld) -> None:
    splits = split_of_rows(world.community.rows)
    state, window = world.draw(200, 24, torch.Generator().manual_seed(1))
    assert {splits[row + hour] for row in state.row.tolist() for hour in range(25)} == {"test"}
    assert len(window) == 25


def test_a_run_leaves_its_rows_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, config = find("offline"), load_config("test")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    lines: list[str] = []
    first = gap.measure(config, "test_weeks", 1, data, lines.append)
    again = gap.measure(config, "test_weeks", 1, data, lines.append)
    assert lines[-1] == "test_weeks, seed 1: its rows are there"
    assert again.composite.tolist() == pytest.approx(first.composite.tolist(), rel=1e-12)
    rows = gap.read(config.profile)
    assert gap_figures.outdated(rows, lambda name, seed: gap.recipe_of(config, name, seed, data)) == {}
    longer = config.model_copy(update={"train": config.train | {"updates": 3}})
    stale = gap_figures.outdated(rows, lambda name, seed: gap.recipe_of(longer, name, seed, data))
    assert stale == {"test_weeks": [1]}
    table = gap_figures.gap_summary(rows)
    assert table.seeds.tolist() == [1] and table.test.iloc[0] == pytest.approx(first.composite.iloc[-1])
    assert "0." in gap_figures.gap_caption(table, "offline").replace(",", ".")
    assert len(gap_figures.gap_figure(first).axes[0].get_lines()) == 6


def test_rows_take_the_place_of_those_of_the_same_key(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    first = pd.DataFrame({"variant": list("baa"), "seed": [0, 1, 1], "split": ["test", "train", "test"], "value": 1.0})
    gap.keep(file, first, ["variant", "seed"], ["b", "a"])
    gap.keep(file, first[1:].assign(value=2.0), ["variant", "seed"], ["b", "a"])
    kept = pd.read_csv(file)
    assert kept["value"].tolist() == [1.0, 2.0, 2.0] and kept["split"].tolist() == ["test", "train", "test"]


def test_the_longest_horizon_comes_closest_to_the_exact_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, config = find("offline"), load_config("test")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    for name, value in {"UPDATES": {0: 2, 1: 1, 24: 1}, "BATCHES": 2, "BATCH": 4, "EXACT": 48}.items():
        monkeypatch.setattr(gradients, name, value)
    lines: list[str] = []
    rows = gradients.measure(config, 0, data, lines.append)
    cosine = rows.set_index("horizon").cosine_mean
    assert cosine.index.tolist() == [0, 1, 24, 48]
    assert max(cosine[0], cosine[1]) < cosine[24] <= 1  # critics that know nothing yet
    gradients.measure(config, 0, data, lines.append)
    assert lines[-1] == "seed 0: its rows are there"
    assert gap_figures.outdated(rows, lambda horizon, seed: gradients.recipe_of(config, seed, data)) == {}
    assert "K = 24" in gap_figures.gradients_caption(gap_figures.gradients_summary(rows), "offline")
    assert gap_figures.gradients_figure(rows).axes[0].get_xlabel()
