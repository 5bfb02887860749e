"""Homes that drop out are not heard and do as business as usual; a late tariff is late for all; a seed counts once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import find
from torch import Tensor

from thesis_lib import paths
from thesis_lib.analysis import learner, robustness, tables
from thesis_lib.community import dataset
from thesis_lib.community.model import Community
from thesis_lib.community.observations import Observer
from thesis_lib.community.reading import Reading, read_environment
from thesis_lib.config import load_config
from thesis_lib.controllers.rules import BusinessAsUsual


@pytest.fixture(scope="module")
def reading() -> Reading:
    env = dataset.load(find("offline"), end=48)
    env.reset()
    return read_environment(env)


class Listener:
    """Keeps what it hears, and does what nobody else would."""

    def reset(self, community: Community) -> None:
        self.community = community

    def act(self, observations: Tensor) -> Tensor:
        self.heard = observations
        return self.community.action_high.expand(len(observations), -1, -1).clone()


def test_nobody_hears_of_a_home_that_drops_out(reading: Reading) -> None:
    community = Community(reading, dtype=torch.float64)
    state = community.reset(2, 20)
    seen = Observer(community)(state)
    listener, usual, alone = Listener(), BusinessAsUsual(), BusinessAsUsual()
    controller = robustness.DroppedOut(listener, usual, [0, 3])
    controller.reset(community)
    alone.reset(community)
    actions = controller.act(seen)
    stay = [home for home in range(community.homes) if home not in (0, 3)]
    assert torch.equal(actions[:, [0, 3]], alone.act(seen)[:, [0, 3]])
    assert torch.equal(actions[:, stay], community.action_high[stay].expand(2, -1, -1))
    assert torch.equal(listener.heard[:, stay], seen[:, stay])
    for home in (0, 3):
        for column, name in enumerate(community.observation_names[home]):
            own = name.startswith(("non_shiftable", "solar_gen", "net_elec", "electrical_s", "deferrable"))
            own = own or "charger" in name
            expected = torch.zeros_like(seen[:, home, column]) if own else seen[:, home, column]
            assert torch.equal(listener.heard[:, home, column], expected), name
    assert seen[:, 0].count_nonzero() > listener.heard[:, 0].count_nonzero() > 0


def test_one_home_of_a_seed_is_among_its_six() -> None:
    names = [f"home {number}" for number in range(17)]
    one, six, other = (robustness.dropped(*asked, names) for asked in ((1, 4), (6, 4), (6, 5)))
    assert len(one) == 1 and len(set(six)) == 6 and one[0] in six and six != other
    assert robustness.dropped(0, 4, names) == []


def test_a_late_tariff_is_late_in_the_bill_and_in_every_forecast(reading: Reading) -> None:
    now, late = (Community(robustness.late_tariff(reading, hours), dtype=torch.float64) for hours in (0, 5))
    before, after = (community.read(torch.tensor([row])) for community, row in ((now, 20), (late, 25)))
    assert torch.equal(now.price(before), late.price(after))
    assert not torch.equal(late.price(late.read(torch.tensor([20]))), now.price(before))
    assert torch.equal(now.carbon(before), late.carbon(late.read(torch.tensor([20]))))
    first, then = (Observer(c)(c.reset(1, row)) for c, row in ((now, 20), (late, 25)))
    same = Observer(late)(late.reset(1, 20))
    for home, names in enumerate(now.observation_names):
        for column, name in enumerate(names):
            if name.startswith("electricity_pricing"):
                assert torch.equal(first[:, home, column], then[:, home, column])
            else:
                assert torch.equal(first[:, home, column], same[:, home, column]), name
    assert np.array_equal(robustness.late_tariff(reading, 0).blocks["market"], reading.blocks["market"])


def test_undisturbed_is_the_learners_own_run_and_a_seed_is_judged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = find("offline")
    config = load_config("test", engines=["model"], variants={"announce": {}})
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    said: list[str] = []
    assert robustness.read("test").empty
    rows = robustness.measure(config, 0, data, end=48, say=said.append)
    assert list(rows["variant"].unique()) == list(robustness.VARIANTS) and set(rows["split"]) == {"train", "year"}
    own = learner.learn(config, "announce", 0, data, end=48, say=lambda _: None)
    year = rows[(rows["split"] == "year") & (rows["kpi"] == tables.COMPOSITE)].set_index("variant")["value"]
    own = own[(own["split"] == "year") & (own["kpi"] == tables.COMPOSITE)]
    assert year["undisturbed"] == pytest.approx(own["value"].iloc[0], rel=1e-9)
    assert year.nunique() == len(year)
    gone = rows.groupby("variant")["dropped"].first().str.split().str.len()
    assert gone[["undisturbed", "dropped_1", "dropped_3", "tariff_6"]].tolist() == [0, 1, 3, 0]
    monkeypatch.setattr(learner, "trained", None)
    again = robustness.measure(config, 0, data, end=48, say=said.append)
    assert said[-1] == "its rows are there"
    pd.testing.assert_frame_equal(again, rows, check_dtype=False, check_like=True)
    with pytest.raises(TypeError):  # another window is no such row
        robustness.measure(config, 0, data, end=47, say=said.append)
