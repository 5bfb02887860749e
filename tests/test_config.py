"""Profiles: the same keys everywhere, and one line for whatever cannot be used."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from thesis_lib import paths
from thesis_lib.config import Config, ConfigError, load_config

PROFILES = sorted(file.stem for file in paths.configs().glob("*.yaml"))


def leaves(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and key != "variants":
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def raw(profile: str) -> dict[str, Any]:
    return yaml.safe_load((paths.configs() / f"{profile}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_load_and_differ_in_numbers_only(profile):
    config = load_config(profile)
    assert config.profile == profile
    own, whole = raw(profile), raw("ablations")
    for one in (own, whole):  # some of the compared learners, each of them whole
        one["learners"] = raw("thesis")["learners"] | one["learners"]
    own, whole = leaves(own), leaves(whole)
    assert list(own) == list(whole)
    texts = {key for key, value in own.items() if isinstance(value, str) and value != whole[key]}
    assert texts <= {"profile", "edition"}
    assert set(load_config("test").controllers) <= set(config.controllers) <= set(load_config("thesis").controllers)
    for variant in config.variants:
        assert config.train_for(variant).keys() == config.train.keys()


@pytest.mark.parametrize("profile", PROFILES)
def test_every_key_has_its_comment(profile):
    before = ""
    for line in (paths.configs() / f"{profile}.yaml").read_text(encoding="utf-8").splitlines():
        if re.match(r"\s*[a-z_]+:", line):
            assert "#" in line or before.startswith("#"), line
        before = line.strip()


def test_the_thesis_needs_the_official_edition():
    assert load_config("thesis").edition == "official"
    assert load_config("thesis").seeds == list(range(10))
    assert {"announce", "broadcast", "none"} <= load_config("thesis").variants.keys()


def test_overrides_replace_values():
    config = load_config("quick", seeds=[3, 4])
    assert config.seeds == [3, 4]
    assert config == load_config("quick").model_copy(update={"seeds": [3, 4]})


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"sedes": [1]}, "unknown key 'sedes'; allowed are profile, edition"),
        ({"edition": "oficial"}, "key 'edition'"),
        ({"seeds": []}, "key 'seeds'"),
        ({"seeds": [1, 1]}, "once only"),
        ({"seeds": [-1]}, "key 'seeds.0'"),
        ({"device": "gpu"}, "key 'device'"),
        ({"threads": 0}, "key 'threads'"),
        ({"train": raw("quick")["train"] | {"minuts": 1}}, "train: unknown key 'minuts'; allowed are rollout_horizon"),
        ({"train": raw("quick")["train"] | {"batch": 0}}, "train: key 'batch'"),
        ({"train": raw("quick")["train"] | {"rollout_horizon": 408}}, "rollout_horizon: at most 407"),
        ({"variants": {"mine": {"coordination": "telepathy"}}}, "train: key 'coordination'"),
        ({"variants": {"mine": {"coordinatoin": "none"}}}, "unknown key 'coordinatoin'"),
        ({"variants": {"mine/own": {}}}, "'mine/own' cannot name a folder"),
        ({"controllers": ["business_as_usual", "rul"]}, "controllers: no controller 'rul'; allowed are charge_on_arr"),
        ({"controllers": ["rule"]}, "controllers: add business_as_usual"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(overrides, says):
    with pytest.raises(ConfigError) as caught:
        load_config("quick", **overrides)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


REPLAY = {"rollout_horizon": 0, "copies": 32, "replay_capacity": 1000, "warmup_hours": 31, "collect_hours": 48}


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        ({"shared_actors": True, "trained_homes": 5}, {"shared_actors": False}, "trained_homes: needs shared_actors"),
        ({"shared_actors": True, "trained_homes": 5}, {"coordination": "attention"}, "not with coordination: att"),
        ({}, {"weights": {"cost": 1.0}}, "weights: give cost, emissions, ramping, daily_peak, import, each once"),
        ({}, {"weights": raw("quick")["train"]["weights"] | {"peak": 0.1}}, "weights: give cost, emissions"),
        ({"observation_missing": 0.99}, {"observation_missing": 1.0}, "observation_missing: below 1"),
        ({"coordination": "broadcast", "broadcast_delay": 1}, {"coordination": "none"}, "broadcast_delay: needs"),
        ({"coordination": "broadcast", "broadcast_delay": 1}, {"coordination": "announce"}, "set broadcast_delay: 0"),
        (REPLAY, {"warmup_hours": 32}, "warmup_hours: at most 31, for then 32 copies"),
        (REPLAY, {"copies": 1001, "warmup_hours": 0}, "copies: at most replay_capacity, 1000"),
        (REPLAY | {"return_hours": 48}, {"return_hours": 49}, "return_hours: at most collect_hours, 48"),
        (REPLAY | {"warmup_hours": 0}, {"return_hours": 2}, "warmup_hours: at least 1 with return_hours above 1"),
        ({"rollout_horizon": 1, "warmup_hours": 99999}, {"rollout_horizon": 0}, "warmup_hours: at most"),
    ],
)
def test_settings_that_do_not_go_together_are_told_before_a_training(good, bad, says):
    load_config("quick", variants={"mine": good})
    with pytest.raises(ConfigError, match=f"quick.yaml: .*{says}") as caught:
        load_config("quick", variants={"mine": good | bad})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("learner", "good", "bad", "says"),
    [
        ("maddpg", {"warmup_hours": 781}, {"warmup_hours": 782}, "warmup_hours: at most 781"),
        ("independent_td3", {"warmup_hours": 1000}, {"copies": 30001}, "copies: at most replay_capacity, 30000"),
        ("independent_sac", {"return_hours": 48}, {"return_hours": 49}, "return_hours: at most collect_hours, 48"),
        ("marlisa", {}, {"weights": {}}, "weights: give cost"),
    ],
)
def test_the_compared_learners_settings_have_to_go_together_too(learner, good, bad, says):
    own = raw("thesis")["learners"][learner]
    load_config("thesis", learners={learner: own | good})
    with pytest.raises(ConfigError, match=f"thesis.yaml: learners.{learner}: {says}"):
        load_config("thesis", learners={learner: own | good | bad})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2]", "must hold keys"),
        ("1: 2", "must hold keys"),
        ("a: [", "no valid YAML"),
        ("\udcff", "cannot be read as text"),
        ("profile: x", "is missing"),
    ],
)
def test_a_broken_file_is_told_in_one_line(tmp_path, text, says):
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(file)
    assert "\n" not in str(caught.value)


def test_a_profile_is_named_as_a_folder(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw("quick") | {"profile": "../mine"}))
    with pytest.raises(ConfigError, match="mine.yaml: '../mine' cannot name a folder: use letters"):
        load_config(tmp_path / "mine.yaml")


def test_an_unknown_profile_or_variant_names_the_known_ones():
    with pytest.raises(ConfigError, match="no profile 'quik'; allowed are ablations, quick"):
        load_config("quik")
    with pytest.raises(ConfigError, match="no variant 'loud'; allowed are announce"):
        load_config("quick").train_for("loud")


def test_a_config_cannot_be_changed_behind_its_back():
    with pytest.raises(ValueError):
        load_config("quick").seeds = [1]
    assert set(Config.model_fields) == set(raw("quick"))
