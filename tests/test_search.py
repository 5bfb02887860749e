"""The search of the compared learners' settings: what it tries first, when it stops, what it leaves behind."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from test_independent import OwnRewards, config

from thesis_lib import paths
from thesis_lib.analysis import learner, search
from thesis_lib.config import load_config
from thesis_lib.controllers import LEARNERS, independent

LEARNER = "independent_td3"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """The thesis' settings of TD3, in a checkout that has no trials."""
    values = learner.settings_of(load_config("thesis"), "default", LEARNER)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    paths.tuning(LEARNER).parent.mkdir(parents=True)
    return values


class World(OwnRewards):
    """The toy with the score that a community's validation has."""

    def validate(self, policy: object) -> dict[str, float]:
        return super().validate(policy) | {"departures_met": 1.0}


def result(*validations: float, minutes: float = 1.0) -> dict:
    return {
        "composite": validations[-1] if validations else math.nan,
        "departures_met": 1.0,
        "updates": 200 * len(validations),
        "minutes": minutes,
        "validations": " ".join(f"{step}:{value}" for step, value in enumerate(validations, 1)),
    }


@pytest.mark.parametrize("name", sorted(search.SEARCHED))
def test_the_first_trial_is_what_the_profile_has(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = learner.settings_of(load_config("thesis"), "default", name)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of a value outside its range, and takes another
        first = search.Trials(name, values).ask()
    assert first.params == {key: values[key] for key in search.SEARCHED[name]}


@pytest.mark.parametrize("name", sorted(search.SEARCHED))
def test_whatever_is_proposed_can_be_trained(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = learner.settings_of(load_config("thesis"), "default", name)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    trials = search.Trials(name, values)
    seen = [trials.ask().params for _ in range(30)]
    for params in seen:
        LEARNERS[name].Config(**(values | params))
    assert {params["habits"] for params in seen} == {True, False}


def test_every_trial_is_written_down_and_the_search_goes_on_from_there(settings: dict) -> None:
    trials = search.Trials(LEARNER, settings)
    for state, values in ((TrialState.COMPLETE, (0.8, 0.79)), (TrialState.PRUNED, (0.7,)), (TrialState.FAIL, ())):
        trials.tell(trials.ask(), state, result(*values))
    again = search.Trials(LEARNER, settings)
    assert again.minutes == trials.minutes == 3.0
    assert list(again.table.columns) == list(search.COLUMNS)
    assert [trial.state for trial in again.study.trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert [trial.params for trial in again.study.trials] == [trial.params for trial in trials.study.trials]
    assert again.study.trials[0].intermediate_values == {1: 0.8, 2: 0.79}
    assert again.ask().params != trials.study.trials[0].params  # the profile's own are not tried again
    best = again.best()
    assert best["composite"] == 0.79  # a trial that was stopped is not chosen
    assert json.loads(best["settings"]) == {key: settings[key] for key in search.SEARCHED[LEARNER]}


def test_without_a_whole_trial_nothing_is_the_best(settings: dict) -> None:
    trials = search.Trials(LEARNER, settings)
    trials.tell(trials.ask(), TrialState.PRUNED, result(0.8))
    with pytest.raises(ValueError, match="raise --minutes"):
        trials.best()


def test_a_trial_trains_as_training_does_and_tells_the_best_so_far() -> None:
    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    chosen = config("td3", updates=24, validate_every=8)
    world = World()
    state, told = search.attempt(independent.TD3, chosen, world, study.ask())
    assert state == TrialState.COMPLETE and told["updates"] == 24 and world.validations == 3
    steps, values = zip(*(map(float, text.split(":")) for text in told["validations"].split()), strict=True)
    assert steps == (1, 2, 3)
    assert list(values) == sorted(values, reverse=True) and told["composite"] == pytest.approx(values[-1], abs=1e-5)


def test_a_trial_that_takes_too_long_is_stopped() -> None:
    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    chosen = config("td3", updates=1000, validate_every=8)
    state, told = search.attempt(independent.TD3, chosen, World(), study.ask(), minutes=1e-6)
    assert state in (TrialState.PRUNED, TrialState.FAIL) and told["updates"] < 1000


def test_settings_that_diverge_fail_and_the_search_goes_on(settings: dict) -> None:
    class Diverging(OwnRewards):
        def step(self, state, actions, hour):  # type: ignore[no-untyped-def]
            after, reward = super().step(state, actions, hour)
            return after, reward * math.inf

    trials = search.Trials(LEARNER, settings)
    trial = trials.ask()
    state, told = search.attempt(independent.TD3, config("td3"), Diverging(), trial)
    assert state == TrialState.FAIL
    trials.tell(trial, state, told)
    assert search.Trials(LEARNER, settings).table["state"].tolist() == ["FAIL"]


def test_what_misses_the_gate_is_behind_whatever_passes() -> None:
    class Unserved(OwnRewards):
        def validate(self, policy: object) -> dict[str, float]:
            return {"composite": 0.1, "departures_met": 0.5, "passes": 0.0}

    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    _, told = search.attempt(independent.TD3, config("td3"), Unserved(), study.ask())
    assert told["composite"] == pytest.approx(1.1) and math.isnan(told["departures_met"])


def test_the_command_says_what_is_wrong_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert search.main([LEARNER, "--minutes", "1", "--profile", "quick"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: profile 'quick' has no learner '{LEARNER}'; allowed are "
    ]


@pytest.mark.parametrize("name", sorted(search.SEARCHED))
def test_the_thesis_trains_with_the_best_trials_settings(name: str) -> None:
    if (spent := pd.read_csv(paths.tuning(name))["minutes"].sum()) < search.MINUTES[name]:
        pytest.skip(f"its search is under way: {spent:.0f} of {search.MINUTES[name]} minutes")
    settings = learner.settings_of(load_config("thesis"), "default", name)
    found = json.loads(search.Trials(name, settings).best()["settings"])
    rounded = {key: float(f"{value:.3g}") if isinstance(value, float) else value for key, value in found.items()}
    assert {key: settings[key] for key in rounded} == rounded
