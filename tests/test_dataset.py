"""The data: where they are looked for, what is refused, how near the generated sessions come."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thesis_lib.community import dataset, generator, sessions
from thesis_lib.community.dataset import NAME, DatasetError, DatasetNotFoundError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "datasets"
LABELS = ["month", "hour", "day_type", "daylight_savings_status"]


@pytest.fixture(scope="session")
def official() -> dataset.Dataset:
    """The real official edition, where this machine has it."""
    given = os.environ.get("CITYLEARN_DATASETS") or (SHARED if SHARED.is_dir() else None)
    if given is None:
        pytest.skip("the official edition is not here: CITYLEARN_DATASETS is not set")
    return dataset.find("official", given)


@pytest.fixture(scope="session")
def offline() -> dataset.Dataset:
    """The real offline edition; its wheel comes from the cache or from PyPI."""
    try:
        return dataset.find("offline")
    except DatasetNotFoundError as reason:
        pytest.skip(str(reason))


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without data or network: no variable set, CityLearn's cache empty, its download failing."""
    import citylearn.data
    import requests

    class Unreachable(citylearn.data.DataSet):
        asked: list[str] = []

        def get_dataset(self, name: str, directory: object = None) -> str:
            self.asked.append(name)
            raise requests.ConnectionError("no route to host")

    monkeypatch.delenv("CITYLEARN_DATASETS", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *name, **_: str(tmp_path / "cache"))
    monkeypatch.setattr(citylearn.data, "DataSet", Unreachable)
    Unreachable.asked = []
    return tmp_path


def write_community(folder: Path) -> Path:
    """A complete small community of one home, and what `official.sha256` would say of it."""
    folder.mkdir(parents=True)
    community = json.loads(generator.COMMUNITY.read_text())
    community["pv_kw"] = {"Building_1": 4.0}
    community["chargers"] = {"charger_1_1": community["chargers"]["charger_1_1"]}
    schema = generator.schema(community)
    schema["simulation_end_time_step"] = 47
    (folder / "schema.json").write_text(json.dumps(schema))
    hours = np.arange(48)
    home = pd.DataFrame({name: 0.0 * hours for name in generator.BUILDING_COLUMNS})
    home = home.assign(hour=hours % 24, month=8, non_shiftable_load=1.0, day_type=1 + hours // 24)
    home.to_csv(folder / "Building_1.csv", index=False)
    names = [name + end for name in generator.WEATHER_COLUMNS for end in ("", *generator.FORECASTS)]
    pd.DataFrame({name: 1.0 + 0.0 * hours for name in names}).to_csv(folder / "weather.csv", index=False)
    names = ["electricity_pricing" + end for end in ("", *generator.FORECASTS)]
    pd.DataFrame({name: 0.2 + 0.0 * hours for name in names}).to_csv(folder / "pricing.csv", index=False)
    pd.DataFrame({"carbon_intensity": 0.1 + 0.0 * hours}).to_csv(folder / "carbon_intensity.csv", index=False)
    stay = {
        "arrival": 0,
        "departure": 40,
        "hidden": 24,
        "announced": 0,
        "arrival_soc": np.nan,
        "required_soc": 80,
    }
    generator.charger_table(pd.DataFrame([stay]), "Electric_Vehicle_7", 48).to_csv(
        folder / "charger_1_1.csv", index=False
    )
    return folder


@pytest.fixture
def published(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small community that is taken for the published one, in a folder of its own."""
    folder = write_community(nowhere / "original" / NAME)
    sums = {file.name: dataset.checksum(file) for file in folder.iterdir()}
    monkeypatch.setattr(dataset, "read_checksums", lambda file: sums)
    yield folder


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / NAME))


def error(edition: str = "official", path: Path | None = None) -> str:
    with pytest.raises(DatasetError) as caught:
        dataset.find(edition, path)
    text = str(caught.value)
    assert "\n" not in text
    return text


# Where the official edition is looked for


def test_explicit_path_goes_before_everything(
    published: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_argument, by_variable, cached = (
        copy(published, nowhere / where) for where in ("argument", "variable", "cache/datasets")
    )
    monkeypatch.setenv("CITYLEARN_DATASETS", str(by_variable.parent))
    assert dataset.find("official", by_argument).schema.parent == by_argument
    assert dataset.find("official", by_argument.parent).schema.parent == by_argument
    assert dataset.find("official").schema.parent == by_variable
    monkeypatch.setenv("CITYLEARN_DATASETS", str(by_variable))
    assert dataset.find("auto").schema.parent == by_variable
    monkeypatch.delenv("CITYLEARN_DATASETS")
    found = dataset.find("auto")
    assert (found.edition, found.schema.parent) == ("official", cached)
    assert found.checksums["Building_1.csv"] == dataset.checksum(cached / "Building_1.csv")


def test_download_comes_last_and_must_verify(
    published: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import citylearn.data

    def download(self: object, name: str, directory: object = None) -> str:
        return str(copy(published, nowhere / "cache" / "datasets") / "schema.json")

    monkeypatch.setattr(citylearn.data.DataSet, "get_dataset", download)
    assert dataset.find("official").schema.parent == nowhere / "cache" / "datasets" / NAME
    (nowhere / "cache" / "datasets" / NAME / "weather.csv").unlink()
    assert "weather.csv is missing" in error()


def test_search_does_not_make_citylearns_cache(published: Path, nowhere: Path) -> None:
    import citylearn.data

    text = error()
    assert citylearn.data.DataSet.asked == [NAME]
    assert not (nowhere / "cache").exists()
    assert "CITYLEARN_DATASETS" in text and "GitHub out of reach" in text


def test_download_gives_up_quickly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """CityLearn's own session would try six times without a timeout."""
    import citylearn.data
    import requests

    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *name, **_: str(tmp_path / "none"))
    monkeypatch.setattr(citylearn.data, "user_cache_dir", lambda **_: str(tmp_path / "cache"))
    asked = []

    def send(self: object, request: object, **how: object) -> None:
        asked.append(how["timeout"])
        raise requests.ConnectTimeout("slow")

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    monkeypatch.setattr(citylearn.data.DataSet, "offline", False)
    with pytest.raises(DatasetNotFoundError, match="ConnectTimeout"):
        dataset._downloaded()
    assert asked == [(4, 30)]


def test_auto_goes_on_offline_and_says_why(
    published: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(generator, "find", lambda: (Path("schema.json"), {}))
    with caplog.at_level(logging.WARNING):
        assert dataset.find("auto").edition == "offline"
    assert len(caplog.records) == 1 and "\n" not in caplog.text.strip()
    assert "not available" in caplog.text and "GitHub out of reach" in caplog.text


# What is refused


def test_wrong_names() -> None:
    assert error("oficial") == "unknown edition 'oficial': use one of auto, official, offline"
    assert "give the data set's folder" in error("auto", Path("nowhere-at-all"))


@pytest.mark.parametrize("name", ["Building_1.csv", "charger_1_1.csv", "pricing.csv"])
def test_altered_or_missing_file_is_named(published: Path, name: str) -> None:
    table = pd.read_csv(published / name)
    table.iloc[3, 0] = table.iloc[3, 0] + 1
    table.to_csv(published / name, index=False)
    assert f"{name} is not the published file" in error(path=published)
    assert "delete the folder" in error("auto", published)
    (published / name).unlink()
    assert f"{name} is missing" in error(path=published)


def test_schema_may_lie_elsewhere_but_not_differ(published: Path) -> None:
    schema = json.loads((published / "schema.json").read_text())
    (published / "schema.json").write_text(json.dumps({**schema, "root_directory": str(published)}))
    assert dataset.find("official", published).schema.parent == published
    (published / "schema.json").write_text(json.dumps({**schema, "random_seed": 1}))
    assert "schema.json is not the published file" in error(path=published)
    (published / "schema.json").write_text("{")
    assert "schema.json is not a CityLearn schema" in error(path=published)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("Building_1.csv", "non_shiftable_load"),
        ("Building_1.csv", "solar_generation"),
        ("weather.csv", "direct_solar_irradiance"),
        ("pricing.csv", "electricity_pricing"),
        ("carbon_intensity.csv", "carbon_intensity"),
    ],
)
@pytest.mark.parametrize("value", [np.nan, "broken", np.inf])
def test_not_a_number_is_named(published: Path, name: str, column: str, value: object) -> None:
    table = pd.read_csv(published / name).astype(object)
    table.loc[17, column] = value
    table.to_csv(published / name, index=False)
    told = f"{name}: column {column} is not a number at row 17"
    assert told in error(path=published)
    with pytest.raises(DatasetError, match=told):
        dataset.load(dataset.Dataset("official", published / "schema.json", {}))


def test_the_other_formats_of_the_name_are_recognised(published: Path) -> None:
    schema = json.loads((published / "schema.json").read_text())
    building = schema["buildings"]["Building_1"]
    building["washing_machines"] = building.pop("deferrable_appliances")
    (published / "schema.json").write_text(json.dumps(schema))
    text = error(path=published)
    assert "`washing_machines` format" in text and "without `deferrable_appliances`" in text
    table = pd.read_csv(published / "charger_1_1.csv")
    table.columns = ["State", "EV", "Departure", "Required", "Arrival", "SOC"]
    table.assign(Month=8, Hour=0).to_csv(published / "charger_1_1.csv", index=False)
    text = error(path=published)
    assert "8-column chargers" in text and "electric_vehicle_charger_state" in text


@pytest.mark.parametrize(("start", "end"), [(-1, 10), (5, 5), (0, 48), (47, None)])
def test_window_outside_the_data(published: Path, start: int, end: int | None) -> None:
    with pytest.raises(DatasetError, match="0 <= start < end <= 47"):
        dataset.load(dataset.find("official", published), start=start, end=end)


# The offline edition


def test_offline_is_the_same_bytes_each_time(offline: dataset.Dataset, tmp_path: Path) -> None:
    generator.generate(tmp_path / "again", generator.wheel())
    generator.generate(tmp_path / "other", generator.wheel(), seed=1)
    again, other = (dataset.read_checksums(tmp_path / name / "SHA256SUMS") for name in ("again", "other"))
    assert again == offline.checksums
    differing = {name for name in again if again[name] != other[name]}
    assert differing == {name for name in again if name.startswith(("charger", "deferrable"))}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again", "other"]  # nothing half done left


def test_offline_has_the_official_schema(offline: dataset.Dataset) -> None:
    published = dataset.read_checksums(Path(dataset.__file__).with_name("official.sha256"))
    assert dataset.checksum(offline.schema) == published["schema.json"]
    assert sorted(offline.checksums) == sorted(published)


def test_offline_needs_no_network_with_a_cached_wheel(
    offline: dataset.Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel = generator.wheel()
    monkeypatch.setenv("THESIS_CACHE", str(tmp_path))
    monkeypatch.setattr(generator.subprocess, "run", lambda *_, **__: pytest.fail("pip was asked"))
    (tmp_path / "wheels").mkdir()
    shutil.copy(wheel, tmp_path / "wheels")
    found = dataset.find("offline")
    assert found.schema.is_relative_to(tmp_path) and found.checksums == offline.checksums
    with (found.schema.parent / "charger_1_1.csv").open("a") as file:
        file.write("1,Electric_Vehicle_7,,80,,\n")
    assert "charger_1_1.csv is not the published file" in error("offline")


def test_offline_without_wheel_or_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THESIS_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    text = error("offline")
    assert "PyPI wheel citylearn==2.1.2" in text and "connect, or put" in text
    assert not list(tmp_path.glob("offline*"))


def test_offline_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("THESIS_CACHE", str(tmp_path / "file"))
    assert "set THESIS_CACHE" in error("offline")


def test_series_of_both_editions_agree(official: dataset.Dataset, offline: dataset.Dataset) -> None:
    names = [name for name in official.checksums if name.startswith(("Building", "weather", "carbon"))]
    assert len(names) == 19
    for name in names:
        ours, theirs = (pd.read_csv(edition.schema.parent / name) for edition in (offline, official))
        assert list(ours) == list(theirs)
        pd.testing.assert_frame_equal(ours, theirs, check_dtype=False, rtol=0, atol=1e-4)
        if name.startswith("Building"):
            assert (ours[LABELS] == theirs[LABELS]).all(axis=None)


@pytest.mark.parametrize("edition", ["official", "offline"])
def test_citylearn_loads_and_steps(
    edition: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    env = dataset.load(request.getfixturevalue(edition), start=100, end=148)
    observations, _ = env.reset()
    assert [len(of_home) for of_home in observations] == [len(names) for names in env.observation_names]
    assert len(env.buildings) == 17 and max(map(len, observations)) == 52
    rng = np.random.default_rng(0)
    for _ in range(48):
        assert not env.terminated
        actions = [
            (space.low + rng.random(space.shape) * (space.high - space.low)) for space in env.action_space
        ]
        observations, *_ = env.step([action.tolist() for action in actions])
    assert env.terminated
    assert all(np.isfinite(of_home).all() for of_home in observations)
    assert np.isfinite(env.net_electricity_consumption).all()
    assert capsys.readouterr().out == ""


def test_names_are_the_same_in_both_editions(official: dataset.Dataset, offline: dataset.Dataset) -> None:
    ours, theirs = dataset.load(offline, end=24), dataset.load(official, end=24)
    assert ours.observation_names == theirs.observation_names
    assert ours.action_names == theirs.action_names


# The sessions


def test_sessions_json_is_what_the_official_files_give(official: dataset.Dataset) -> None:
    fitted = sessions.fit(sessions.read_sessions(official.schema), sessions.read_cycles(official.schema))
    kept = json.loads(sessions.FIGURES.read_text())
    assert {key: kept[key] for key in fitted} == fitted
    assert set(kept) == {*fitted, "source"}


def test_official_sessions_are_as_documented(official: dataset.Dataset) -> None:
    found = sessions.read_sessions(official.schema)
    assert len(found) == 2799
    assert (found["departure"] - found["arrival"]).sum() == 46456
    long = found[found["complete"] & (found["departure"] - found["arrival"] > 24)]
    hiding = found[found["complete"] & (found["hidden"] > 0)]
    assert list(long.index) == list(hiding.index) and len(long) == 102
    disclosed = hiding["arrival"] + hiding["hidden"]
    assert (disclosed % 24 == 0).all() and (hiding["departure"] - disclosed).min() == 6


def test_the_page_on_the_data_shows_these_sessions(official: dataset.Dataset, offline: dataset.Dataset) -> None:
    text = (Path(__file__).parents[1] / "docs/dataset.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| ([^|]+) \| ([\d,.]+ \| [\d,.]+) \| [\d.]+ \|$", text, re.MULTILINE))
    found = [
        sessions.summary(sessions.read_sessions(data.schema), sessions.read_cycles(data.schema))
        for data in (official, offline)
    ]
    for name in found[0].index:
        whole = all(float(values[name]).is_integer() for values in found)
        texts = [f"{values[name]:,.0f}" if whole else f"{values[name]:,.2f}" for values in found]
        assert shown[name] == " | ".join(texts), name


def test_citylearn_counts_disclosures_as_departures(official: dataset.Dataset) -> None:
    """Its 2,894 departure events: 2,787 cars that leave, 4 sessions without a gap, 103 disclosures midway."""
    leaving = renewed = disclosed = 0
    for file in official.schema.parent.glob("charger_*.csv"):
        table = pd.read_csv(file, nrows=8760)
        state = table["electric_vehicle_charger_state"].to_numpy()
        countdown = table["electric_vehicle_departure_time"].fillna(-1).to_numpy()
        here, next_too = state[:-1] == 1, state[1:] == 1
        reset = here & next_too & (countdown[:-1] <= 1) & (countdown[1:] > countdown[:-1])
        leaving += int((here & ~next_too).sum())
        disclosed += int((reset & (countdown[:-1] == -1)).sum())
        renewed += int((reset & (countdown[:-1] != -1)).sum())
    assert (leaving, renewed, disclosed) == (2787, 4, 103)


TOLERANCE = {  # relative, or absolute where the unit is % or the name says hour
    "sessions": 0.03,
    "connected hours": 0.02,
    "stay, mean (h)": 0.03,
    "stays over 24 h": 0.25,
    "sessions with hidden departure": 0.25,
    "hours with hidden departure": 0.25,
    "trip, mean (h)": 0.03,
    "arrival hour, mean": 0.02,
    "departure hour, mean": 0.02,
    "arrival SOC, mean (%)": 0.03,
    "arrival SOC, standard deviation (%)": 0.05,
    "arrivals without SOC": 0.5,
    "required SOC, mean (%)": 0.02,
    "required above arrival, mean (%)": 0.05,
    "hours announced, mean": 0.05,
    "appliance cycles": 0.0,
    "cycle energy, mean (kWh)": 0.1,
    "cycle energy, standard deviation (kWh)": 0.2,
    "cycle length, mean (h)": 0.05,
}


def test_generated_sessions_are_like_the_official_ones(
    official: dataset.Dataset, offline: dataset.Dataset
) -> None:
    theirs, ours = (
        sessions.summary(sessions.read_sessions(edition.schema), sessions.read_cycles(edition.schema))
        for edition in (official, offline)
    )
    assert set(ours.index) == set(TOLERANCE)
    distance = (ours / theirs - 1).abs()
    assert {name: value for name, value in distance.items() if value > TOLERANCE[str(name)]} == {}


def test_drawn_sessions_survive_the_file_format(tmp_path: Path) -> None:
    """What is drawn is what is read back from the files, for every session and field."""
    figures = json.loads(sessions.FIGURES.read_text())
    drawn = sessions.draw_charger(figures, "charger_5_1", 8760, np.random.default_rng(3))
    table = generator.charger_table(drawn, "Electric_Vehicle_1", 8760)
    table.to_csv(tmp_path / "charger.csv", index=False)
    schema = {
        "simulation_end_time_step": 8759,
        "buildings": {"Building_5": {"chargers": {"charger_5_1": {"charger_simulation": "charger.csv"}}}},
    }
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    read = sessions.read_sessions(tmp_path / "schema.json")
    assert read["arrival"].tolist() == drawn["arrival"].tolist()
    assert read["departure"].tolist()[:-1] == drawn["departure"].tolist()[:-1]
    assert read["hidden"].tolist()[:-1] == drawn["hidden"].tolist()[:-1]
    assert read["announced"].tolist() == drawn["announced"].tolist()
    for name in ("arrival_soc", "required_soc"):
        np.testing.assert_allclose(read[name], drawn[name] / 100)
    # 1 would be read as a fraction, a full battery
    assert drawn["arrival_soc"].min() >= 2
    assert (drawn["arrival"].to_numpy()[1:] > drawn["departure"].to_numpy()[:-1]).all()
    last = table["electric_vehicle_departure_time"][drawn["departure"][:-1] - 1]
    assert (last == 0).all()
