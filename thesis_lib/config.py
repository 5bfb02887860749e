"""The settings of a run: what may stand in ``configs/*.yaml``, and nothing else.

A profile is a YAML file. Every key must be there (no hidden default) and no other may; the sections ``train``
and ``variants`` are the learner's, ``learners`` those of the learners compared with it; their own configurations say
which keys they know.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from thesis_lib import paths
from thesis_lib.community.splits import blocks


class ConfigError(ValueError):
    """A setting that cannot be used; its text is one line that names the key and what is allowed."""


class Config(BaseModel):
    """One profile, as ``configs/<profile>.yaml`` gives it; the comments there say what each key means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: str
    edition: Literal["auto", "official", "offline"]
    language: Literal["es", "en"]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)]
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
    threads: Annotated[int, Field(ge=1)]
    variants: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    train: dict[str, Any]
    learners: dict[str, dict[str, Any]]
    controllers: list[str]
    engines: Annotated[list[Literal["citylearn", "model"]], Field(min_length=1)]

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("each seed may stand once only")
        return seeds

    @model_validator(mode="after")
    def _names_are_folders(self) -> Config:
        for name in (self.profile, *self.variants):
            paths.results(name)  # its error says which name and why
        return self

    @model_validator(mode="after")
    def _variants_override_train(self) -> Config:
        for name, overrides in self.variants.items():
            for key in overrides:
                if key not in self.train:
                    raise ValueError(
                        f"variants.{name}: unknown key '{key}'; allowed are {_listed(self.train)}"
                    )
        return self

    def train_for(self, variant: str) -> dict[str, Any]:
        """The learner's settings for one variant: the section ``train`` with the variant's own values.

        Raises:
            ConfigError: this profile has no such variant.
        """
        if variant not in self.variants:
            raise ConfigError(
                f"profile '{self.profile}' has no variant '{variant}'; allowed are {_listed(self.variants)}"
            )
        return self.train | self.variants[variant]

    def learner_for(self, name: str) -> dict[str, Any]:
        """The settings of a compared learner: its own, and those of ``train`` that hold for every learner.

        Raises:
            ConfigError: this profile has no such learner.
        """
        from thesis_lib.controllers import LEARNERS  # here, because they bring torch

        if name not in self.learners:
            raise ConfigError(
                f"profile '{self.profile}' has no learner '{name}'; allowed are {_listed(self.learners)}"
            )
        return {key: self.train[key] for key in LEARNERS[name].shares or self.train} | self.learners[name]


def load_config(profile: str | Path, **overrides: Any) -> Config:
    """Read and check a profile.

    Args:
        profile: a name (``quick`` for ``configs/quick.yaml``) or the path of a YAML file.
        **overrides: values that take the place of the file's, each replaced whole.

    Returns:
        The checked settings.

    Raises:
        ConfigError: no such profile, a file that is not YAML, a key that is missing or unknown, a value
            that cannot be used, values that do not go together. One line.
    """
    path = Path(profile) if Path(profile).suffix in {".yaml", ".yml"} else paths.configs() / f"{profile}.yaml"
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(file.stem for file in paths.configs().glob("*.yaml"))
        raise ConfigError(
            f"no profile '{profile}'; allowed are {_listed(known)}, or the path of a .yaml"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path.name} is no valid YAML: {' '.join(str(error).split())}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read as text: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        raise ConfigError(f"{path.name} must hold keys and values; see configs/quick.yaml")
    try:
        config = Config(**(settings | overrides))
    except ValidationError as error:
        raise ConfigError(f"{path.name}: {_one_line(error, Config)}") from None
    from thesis_lib.analysis.evaluation import REFERENCE  # here, because they bring torch, and the first this module
    from thesis_lib.controllers import CONTROLLERS, LEARNERS
    from thesis_lib.maddpg.training import TrainConfig

    checked: dict[str, dict[str, Any]] = {}
    for variant in config.variants:
        try:
            checked[f"variants.{variant}"] = TrainConfig(**config.train_for(variant)).model_dump()
        except ValidationError as error:
            raise ConfigError(f"{path.name}: train: {_one_line(error, TrainConfig)}") from None
    for name in config.learners:
        if name not in LEARNERS:
            raise ConfigError(f"{path.name}: unknown learner 'learners.{name}'; allowed are {_listed(LEARNERS)}")
        model = LEARNERS[name].Config
        try:
            checked[f"learners.{name}"] = model(**config.learner_for(name)).model_dump()
        except ValidationError as error:
            raise ConfigError(f"{path.name}: learners.{name}: {_one_line(error, model)}") from None
    for where, values in checked.items():
        if fault := next(_faults(values), None):
            raise ConfigError(f"{path.name}: {where}: {fault}")
    for name in config.controllers:
        if name not in CONTROLLERS:
            raise ConfigError(f"{path.name}: controllers: no controller '{name}'; allowed are {_listed(CONTROLLERS)}")
    if REFERENCE not in config.controllers:
        raise ConfigError(f"{path.name}: controllers: add {REFERENCE}, which all the others are measured against")
    return config


def _faults(settings: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the settings of a training that no key shows alone: it would fail late, or never begin."""
    from thesis_lib.community.kpis import WEIGHTS  # here, because it brings torch

    longest = max(stop - start for start, stop in blocks("train")) - 1  # hours of a window, and one row more
    for key in ("rollout_horizon", "collect_hours"):
        if settings.get(key, 0) > longest:
            yield f"{key}: at most {longest}, the longest train block"
    if settings["weights"].keys() != WEIGHTS.keys():
        yield f"weights: give {_listed(WEIGHTS)}, each once, not {_listed(settings['weights'])}"
    if settings.get("observation_missing", 0) == 1:
        yield "observation_missing: below 1, for with 1 no reading ever arrives"
    if settings.get("trained_homes") and not settings["shared_actors"]:
        yield "trained_homes: needs shared_actors: true, since actors of their own know their own homes only"
    if settings.get("trained_homes") and settings["coordination"] == "attention":
        yield "trained_homes: not with coordination: attention, whose weights are not taken to other homes"
    if settings.get("broadcast_delay") and settings["coordination"] != "broadcast":
        yield "broadcast_delay: needs coordination: broadcast, the only one that can be late"
    if settings.get("rollout_horizon"):
        return  # what follows is about the replay memory
    copies, capacity = settings["copies"], settings["replay_capacity"]
    if copies > capacity:
        yield f"copies: at most replay_capacity, {capacity}, which takes an hour of all of them at once"
    if "rollout_horizon" in settings and settings["warmup_hours"] * copies > capacity:  # the others stop at a full one
        yield f"warmup_hours: at most {capacity // copies}, for then {copies} copies have filled replay_capacity"
    if settings["return_hours"] > settings["collect_hours"]:
        yield f"return_hours: at most collect_hours, {settings['collect_hours']}; else no transition is ever whole"
    if settings["return_hours"] > 1 and settings["warmup_hours"] == 0:
        yield "warmup_hours: at least 1 with return_hours above 1, or the first update finds nothing to learn from"


def _one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault that pydantic found, in words."""
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{key}'; allowed are {_listed(model.model_fields)}"
    if fault["type"] == "missing":
        return f"key '{key}' is missing; every key of configs/quick.yaml must be there"
    message = fault["msg"].removeprefix("Value error, ")
    return f"key '{key}': {message}, not {fault['input']!r}" if key else message


def _listed(names: Any) -> str:
    return ", ".join(str(name) for name in names)
