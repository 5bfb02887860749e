"""The exported graphs do what torch does, the service reads what the model reads, and needs no torch for it."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from conftest import find, model
from served import checkpoint, exported, packed

from thesis_lib import paths
from thesis_lib.community import dataset
from thesis_lib.community.model import FLOATS, INDICES, Community
from thesis_lib.community.observations import Observer
from thesis_lib.community.reading import read_environment
from thesis_lib.maddpg.training import TrainConfig, load_policy
from thesis_lib.provenance import sha256
from thesis_lib.serving import data, export
from thesis_lib.serving.data import DataError, read
from thesis_lib.serving.policy import ModelError, Policy, ServedPolicy, open_graph, read_card, seal
from thesis_lib.serving.simulation import EpisodeError, Simulation


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory)


def test_the_graph_acts_as_torch_does_in_every_hour_of_the_year(folder: Path) -> None:
    community = model("offline")
    policy = load_policy(folder / "best.pt", community).policy
    seen, done = export.recorded(policy, community)
    assert seen.shape[:2] == (168, 53)
    assert float(done.std((0, 1))[community.action_mask].min()) > 1e-3  # every device does now this, now that
    served = ServedPolicy(folder / "policy.onnx")
    worst = export.difference((folder / "policy.onnx").read_bytes(), community, seen, done)
    assert worst <= 1e-5
    assert served.card["parity"]["largest_difference"] == pytest.approx(worst, rel=1e-3, abs=1e-7)
    # One hour alone, and as lists, is the same as many at once.
    lists = [seen[7, 3, home, : len(names)].tolist() for home, names in enumerate(community.observation_names)]
    actions = served.unpack(served.act(served.pack(lists))[0])
    for home, names in enumerate(community.action_names):
        np.testing.assert_allclose(actions[home], done[7, 3, home, : len(names)], atol=1e-5)


@pytest.mark.parametrize("variant", ["announce", "broadcast", "none"])
def test_the_committed_graphs_act_as_their_checkpoints_do_in_every_hour_of_the_year(variant: str) -> None:
    community, folder = model(find("auto").edition), paths.ROOT / "models" / variant
    trained = load_policy(folder / "best.pt", community)
    seen, done = export.recorded(trained.policy, community)
    served = ServedPolicy(folder / "policy.onnx")
    assert served.card == json.loads((folder / "card.json").read_text(encoding="utf-8"))
    assert served.card["checkpoint"]["sha256"] == sha256(folder / "best.pt")
    assert export.difference((folder / "policy.onnx").read_bytes(), community, seen, done) <= export.TOLERANCE
    for home, name in enumerate(community.home_names if variant == "none" else ()):
        own = open_graph((folder / "homes" / f"{name}.onnx").read_bytes())
        observations = seen[..., home, : len(community.observation_names[home])].flatten(0, 1).numpy()
        wanted = done[..., home, : len(community.action_names[home])].flatten(0, 1).numpy()
        (found,) = own.run(None, {"observations": observations})
        assert np.abs(found - wanted).max() <= export.TOLERANCE, name
    assert len(list((folder / "homes").glob("*.onnx"))) == (17 if variant == "none" else 0)


def test_the_card_says_what_the_policy_is(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    assert ServedPolicy(folder / "policy.onnx").card == card
    assert card["edition"] == "offline" and card["variant"] == "broadcast" and card["memory"] == []
    assert "aggregator" in card["communication"] and card["evaluation"] is None
    assert [home["name"] for home in card["homes"]] == model("offline").home_names
    assert card["homes"][0]["observations"][3]["name"] == model("offline").observation_names[0][3]
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "## Limits" in text and card["version"] in text
    assert card["checkpoint"]["sha256"] == sha256(folder / "best.pt")


def test_every_graph_is_sealed_and_the_version_is_of_the_graph(folder: Path) -> None:
    for name in ("policy.onnx", "observe.onnx", "step.onnx"):
        data = (folder / name).read_bytes()
        # To any reader of ONNX the seal is an entry of the metadata.
        entries = {entry.key: entry.value for entry in onnx.load_from_string(data).metadata_props}
        assert entries["sha256"] == hashlib.sha256(data[:-76]).hexdigest()
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    proto = onnx.load(folder / "policy.onnx")
    del proto.metadata_props[:]
    bare = proto.SerializeToString(deterministic=True)
    assert card["version"] == f"broadcast-seed_0-{hashlib.sha256(bare).hexdigest()[:12]}"
    assert export.version(card, bare + b" ") != card["version"]


def test_a_run_gives_the_card_its_kpis_and_another_runs_do_not_fit(folder: Path, tmp_path: Path) -> None:
    policy = load_policy(folder / "best.pt", model("offline"))
    with pytest.raises(export.ExportError, match="evaluate the policy first"):
        export.make_card(policy, folder / "best.pt", "offline", "broadcast", model("offline"), tmp_path)
    record = {"git": {"commit": "abc"}, "recipe": "r", "written": "w"}
    row = {"edition": "offline", "controller": "cooperative_maddpg", "variant": "broadcast", "seed": 0}
    own = sha256(folder / "best.pt")

    def card(checkpoint: str | None = own, **changed: Any) -> dict[str, Any]:
        trained = {} if checkpoint is None else {"training": {"checkpoint": checkpoint}}
        (tmp_path / "run.json").write_text(json.dumps(record | trained))
        kpi = {"split": "test", "kpi": "cost", "value": 123.5, "unit": "EUR", "engine": "citylearn"}
        pd.DataFrame([row | changed | kpi]).to_csv(tmp_path / "kpis.csv", index=False)
        return export.make_card(policy, folder / "best.pt", "offline", "broadcast", model("offline"), tmp_path)

    found = card()
    assert found["evaluation"]["kpis"][0]["value"] == 123.5
    found |= {"version": "broadcast-seed_0-0", "parity": {"largest_difference": 0.0, "hours": 1}}
    assert "| cost | test | 123.5 | EUR |" in export.describe(found)
    for changed in ({"edition": "official"}, {"controller": "rule"}, {"variant": "none"}, {"seed": 1}):
        with pytest.raises(export.ExportError, match=f"another {next(iter(changed))}"):
            card(**changed)
    for other in ("0" * 64, None):  # None: a record that does not say
        with pytest.raises(export.ExportError, match="another checkpoint"):
            card(checkpoint=other)


def test_what_a_late_broadcast_remembers_goes_in_and_out(tmp_path: Path) -> None:
    community = model("offline")
    policy = load_policy(checkpoint(tmp_path / "late.pt", broadcast_delay=1), community).policy
    seen = torch.cat([Observer(community)(community.reset(1, row)) for row in (12, 4000, 8000)]).float()
    policy.reset()
    wanted = [policy(hour.unsqueeze(0)) for hour in seen]
    whole = export.CommunityPolicy(copy.deepcopy(policy), community.observation_names, community.action_names)
    memory = torch.full((1,), torch.nan)
    for hour, want in zip(seen, wanted, strict=True):
        observations = torch.from_numpy(export.flat(hour.unsqueeze(0), community.observation_names))
        found, memory = whole(observations, memory)
        np.testing.assert_array_equal(found.detach(), export.flat(want.detach(), community.action_names))
    assert not torch.equal(wanted[1], policy(seen[1:2]))  # it does remember


def test_graphs_of_homes_alone_do_not_outlive_their_model(tmp_path: Path) -> None:
    (tmp_path / "out" / "homes").mkdir(parents=True)
    (tmp_path / "out" / "homes" / "Building_1.onnx").touch()
    export.export(checkpoint(tmp_path / "best.pt", seed=3), tmp_path / "out", find("offline"))
    assert not (tmp_path / "out" / "homes").exists()
    assert "this one is another" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_homes_that_announce_are_one_graph_too(tmp_path: Path) -> None:
    community = model("offline")
    policy = load_policy(checkpoint(tmp_path / "announce.pt", coordination="announce"), community).policy
    seen, done = export.recorded(policy, community)
    assert export.difference(export.policy_graph(policy, community), community, seen, done) <= 1e-5


def test_one_homes_graph_acts_as_it_does_in_the_community(tmp_path: Path) -> None:
    env = dataset.load(find("offline"))
    env.reset()
    reading = read_environment(env)
    community = Community(reading, dtype=torch.float64)
    trained = load_policy(checkpoint(tmp_path / "none.pt", coordination="none"), community)
    config, settings = TrainConfig(**trained.checkpoint["config"]), trained.checkpoint["guard_settings"]
    seen, done = (values.flatten(0, 1) for values in export.recorded(trained.policy, community))
    home = 14  # two chargers
    graph = export.home_graph(trained.policy, config, settings, reading, home)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    own = seen[:, home, : len(community.observation_names[home])].numpy()
    (found,) = session.run(None, {"observations": own})
    assert np.abs(found - done[:, home, : found.shape[1]].numpy()).max() <= 1e-5
    card = export.make_card(trained, tmp_path / "none.pt", "offline", "none", community, None)
    whole = export.with_card(graph, export.home_card(card, home, graph))
    said, _ = read_card(open_graph(whole), Policy, "home")
    assert [own["name"] for own in said["homes"]] == ["Building_15"] and said["checkpoint"] == card["checkpoint"]
    heard = TrainConfig(**{**config.model_dump(), "coordination": "broadcast"})
    with pytest.raises(export.ExportError, match="needs the other homes"):
        export.home_graph(trained.policy, heard, settings, reading, home)


def test_the_data_are_read_as_citylearn_reads_them(edition: str) -> None:
    source = find(edition)
    env = dataset.load(source)
    env.reset()
    reading = read_environment(env)
    community = Community(reading, dtype=torch.float64)
    about = {
        "homes": community.home_names,
        "observation_names": community.observation_names,
        "action_names": community.action_names,
        "cars": community.car_names,
        "chargers": community.charger_names,
        "appliances": community.appliance_names,
        "floats": list(FLOATS),
        "indices": list(INDICES),
        **{key: reading.storage[key].tolist() for key in ("minimum_soc", "keep")},
    }
    series = read(source.schema.parent, edition, about)
    assert series.edition == edition
    for name in ("table", "index_table", "start_soc", "drift_noise", "drift_base"):
        np.testing.assert_array_equal(getattr(series, name), getattr(community, name).numpy(), err_msg=name)
    for name, values in series.cycles.items():
        np.testing.assert_array_equal(values, getattr(community, f"cycle_{name}").numpy(), err_msg=name)
    with pytest.raises(DataError, match="other homes"):
        read(source.schema.parent, edition, about | {"homes": community.home_names[1:]})


def test_altered_data_are_no_edition(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"buildings": {}}')
    with pytest.raises(DataError, match="neither the official edition nor"):
        read(tmp_path, "offline", {})
    with pytest.raises(DataError, match="no schema.json in THESIS_DATA"):
        read(tmp_path / "nowhere", "offline", {})
    whole = find("offline").schema.parent
    shutil.copytree(whole, tmp_path / whole.name)
    (tmp_path / whole.name / "schema.json").write_text('{"buildings": {')
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / whole.name, "offline", {})


def test_data_that_may_not_be_looked_at_are_no_fault_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", forbidden)
    with pytest.raises(DataError, match="Permission denied"):
        read(tmp_path, "offline", {})


def test_each_edition_is_looked_for_where_it_lies_and_no_other_is_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from citylearn.data import DataSet

    assert data.CITYLEARN == (DataSet.REPOSITORY_NAME.lower(), DataSet.GITHUB_ACCOUNT, DataSet.REPOSITORY_TAG)
    offline = find("offline").schema.parent
    monkeypatch.setenv("CITYLEARN_DATASETS", str(offline))
    monkeypatch.setattr(data, "user_cache_dir", lambda name, *more, **others: str(tmp_path / name))
    assert data.find(None, "offline") == offline
    with pytest.raises(DataError, match="has the offline edition, the policy is of the official one: set it to"):
        data.find(offline, "official")
    with pytest.raises(DataError, match="has the offline edition.*; none in .*: set CITYLEARN_DATASETS"):
        data.find(None, "official")
    cached = tmp_path / "citylearn" / "datasets" / data.NAME
    cached.mkdir(parents=True)
    (cached / "schema.json").write_text("{}")
    monkeypatch.setattr(data, "_edition", {cached: "official", offline: "offline"}.get)
    assert data.find(None, "official") == cached
    monkeypatch.setenv("CITYLEARN_DATASETS", str(cached))
    monkeypatch.setenv("THESIS_CACHE", str(offline.parent))
    assert data.find(None, "offline") == offline


def test_an_episode_is_the_models(folder: Path) -> None:
    community = model("offline")
    served = ServedPolicy(folder / "policy.onnx")
    simulation = Simulation(folder, served, find("offline").schema.parent)
    with pytest.raises(EpisodeError, match="no episode yet"):
        simulation.step(1)
    for start, hours in ((0, 60), (8700, 59)):
        episode = simulation.reset(start)
        state, observer = community.reset(1, start), Observer(community)
        done = []
        for _ in range(hours):
            seen = observer(state)
            flat = export.flat(seen, community.observation_names)
            # Both keep float32 where CityLearn does; a sum in another order may round the other way.
            np.testing.assert_allclose(packed(episode.observations), flat.astype(np.float32), rtol=1e-6, atol=1e-6)
            acted = served.act(flat.astype(np.float32))[0]
            actions = torch.zeros(1, community.homes * community.slots, dtype=community.dtype)
            actions[0, community.action_mask.flatten()] = torch.from_numpy(acted).double()
            state, flows = community.step(state, actions.view(1, community.homes, community.slots))
            episode = simulation.step(1)
            (hour,) = episode.hours
            done.append(hour)
            for name in ("net", "battery", "battery_soc", "chargers", "car_soc", "appliances"):
                np.testing.assert_allclose(getattr(hour, name), getattr(flows, name)[0], atol=1e-6, err_msg=name)
            assert hour.cost == pytest.approx(float(flows.cost.sum()), abs=1e-6)
        assert [hour.row for hour in done] == list(range(start, start + hours))
        assert np.ptp([sum(hour.net) for hour in done]) > 1
    assert episode.ended and simulation.step(5).hours == []
    with pytest.raises(EpisodeError, match="beyond the last row"):
        simulation.reset(8759)
    simulation.reset(0)
    with pytest.raises(EpisodeError, match="one hour only"):
        simulation.step(2, [[0.0]])
    with pytest.raises(EpisodeError, match="expected lists of"):
        simulation.step(1, [[0.0]])


def test_the_committed_policy_acts_in_its_own_edition_alone() -> None:
    folder = paths.ROOT / "models" / "broadcast"
    policy = ServedPolicy(folder / "policy.onnx")
    with pytest.raises(DataError, match="has the offline edition, the policy is of the official one"):
        Simulation(folder, policy, find("offline").schema.parent)
    simulation, community = Simulation(folder, policy, find("official").schema.parent), model("official")
    episode, state = simulation.reset(2000), community.reset(1, 2000)
    assert episode.edition == "official"
    for hour in simulation.step(72).hours:
        actions = torch.zeros(1, community.homes * community.slots, dtype=community.dtype)
        actions[0, community.action_mask.flatten()] = torch.tensor(sum(hour.actions, []), dtype=community.dtype)
        state, flows = community.step(state, actions.view(1, community.homes, community.slots))
        np.testing.assert_allclose(hour.net, flows.net[0], atol=1e-5)
    assert int(state.row) == 2072


def test_a_file_that_is_no_policy_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    whole, card = (folder / "policy.onnx").read_bytes(), ServedPolicy(folder / "policy.onnx").card
    bad = tmp_path / "policy.onnx"
    place = whole.index(b'"communication"')  # in the card

    def altered(at: int, byte: int) -> bytes:
        return whole[:at] + bytes([byte]) + whole[at + 1 :]

    def flipped(at: int) -> bytes:
        return altered(at % len(whole), whole[at] ^ 1)

    def sealed(content: bytes) -> bytes:
        return seal(content[:-76])

    scalar = onnx.helper.make_tensor_value_info("observations", onnx.TensorProto.FLOAT, [])
    same = onnx.helper.make_node("Identity", ["observations"], ["actions"])
    given = onnx.helper.make_tensor_value_info("actions", onnx.TensorProto.FLOAT, [])
    tiny = onnx.helper.make_model(onnx.helper.make_graph([same], "scalar", [scalar], [given]), ir_version=10)
    for content, says in (
        (b"", "damaged"),
        (whole[: len(whole) // 2], "damaged"),
        (b"\x00" * 5000, "damaged"),
        (whole[:-76], "damaged"),  # without its seal
        (flipped(len(whole) // 3), "damaged"),  # a weight
        (flipped(place), "damaged"),
        (flipped(-76), "damaged"),
        (flipped(-1), "damaged"),
        (whole + b"\x00", "damaged"),
        (seal(b"nothing"), "not a readable ONNX file"),
        (sealed(altered(place, 0xC4)), "no card of a policy"),  # no UTF-8
        (sealed(altered(place, 0x7B)), "no card of a policy"),  # no JSON
        (sealed(altered(place + 3, 0x78)), "no card of a policy"),  # a field of another name
        (export.with_card(tiny.SerializeToString(), card), "other inputs or outputs"),
        ((folder / "step.onnx").read_bytes(), "no card"),
        ((folder / "observe.onnx").read_bytes(), "no card"),
    ):
        bad.write_bytes(content)
        with pytest.raises(ModelError, match=says) as caught:
            ServedPolicy(bad)
        assert "\n" not in str(caught.value)
    for change, says in (
        ({"format": 99}, "format 99"),
        ({"homes": card["homes"][1:]}, "other inputs or outputs"),
        ({"memory": ["memory"]}, "the service keeps nothing"),
        ({"edition": None}, "no card of a policy"),
    ):
        bad.write_bytes(export.with_card(whole, card | change))
        with pytest.raises(ModelError, match=says):
            ServedPolicy(bad)
    with pytest.raises(ModelError, match="cannot be read"):
        ServedPolicy(tmp_path / "nothing.onnx")


def test_wrong_arguments_end_in_one_line_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
    content = torch.load(checkpoint(tmp_path / "other.pt"), weights_only=True)
    content["config"]["algorithm"] = content["config"].pop("coordination")  # as of another learner, or of older keys
    torch.save(content, tmp_path / "other.pt")
    out = tmp_path / "out"
    for name, says in (
        ("missing.pt", "train first"),
        ("broken.pt", "no readable checkpoint"),
        ("other.pt", "other.pt was trained with other settings than cooperative_maddpg has now ('coordination' is the"),
    ):
        assert export.main([str(tmp_path / name), "--out", str(out), "--edition", "offline"]) == 1
        error = capsys.readouterr().err
        assert says in error and error.startswith("error: ") and error.count("\n") == 1
    assert not out.exists()
    with pytest.raises(SystemExit, match="0"):
        export.main(["--help"])
    assert "--run" in capsys.readouterr().out


def test_the_charts_are_those_of_the_package() -> None:
    vendor = Path(export.__file__).parent / "static" / "vendor"
    whole = (vendor / "chart-4.6.1.umd.min.js").read_bytes() + b"//# sourceMappingURL=chart.umd.min.js.map\n"
    of_npm = "87364cc2b2a76a6684929e7d6b80b18a897794db38400caff1fcf1791c6925d2"  # package/dist/chart.umd.min.js
    assert hashlib.sha256(whole).hexdigest() == of_npm
    assert "MIT" in (vendor / "chart-LICENSE.md").read_text(encoding="utf-8")


def test_the_service_needs_neither_torch_nor_citylearn(folder: Path) -> None:
    script = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "citylearn", "pandas", "scipy", "onnx", "matplotlib", "yaml"):
            raise ModuleNotFoundError(f"{name} is not in the service's image", name=name)
sys.meta_path.insert(0, Absent())
from pathlib import Path
from thesis_lib.serving import app
from thesis_lib.serving.policy import ServedPolicy
from thesis_lib.serving.simulation import Simulation
folder, data = map(Path, sys.argv[1:])
simulation = Simulation(folder, ServedPolicy(folder / "policy.onnx"), data)
simulation.reset(10)
print(len(simulation.step(3).hours), app.create_app(app.Settings(model=folder)).title)
"""
    data = find("offline").schema.parent
    answer = subprocess.run([sys.executable, "-c", script, folder, data], capture_output=True, text=True)
    assert answer.stdout == "3 Community energy policy\n", answer.stderr
