"""A trained policy as ONNX graphs, with a card that says what it is.

    python -m thesis_lib.serving.export CHECKPOINT --out models/broadcast

leaves in the folder:

- ``policy.onnx``: the whole policy of the whole community: normaliser, coordination, the actors of all homes, habits,
  guard, bounds. Float32 ``observations`` (B, N), CityLearn's lists one home after the other, to ``actions`` (B, M)
  likewise. Its metadata hold the card, so that this one file is all a service needs to act;
- ``homes/<home>.onnx``: the same for one home alone, for a device at its meter; only where nothing is communicated;
- ``observe.onnx``, ``step.onnx``: one hour of the community in float64, for the service's ``/simulate``. They hold
  constants of homes and devices; the data set's series are inputs;
- ``card.json`` and ``README.md``, for people; ``best.pt``, what it was made from.

Each graph is sealed: the checksum of its bytes is its last entry of metadata, and the service opens no other file.

What has to be remembered between hours (the sum of the hour before, where the broadcast is late) is an input and an
output of the graph, ``memory`` (B,): NaN in the first hour.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import logging
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from thesis_lib.analysis.learner import CONTROLLER
from thesis_lib.community import dataset as datasets
from thesis_lib.community.dataset import Dataset, DatasetError
from thesis_lib.community.model import FLOATS, INDICES, Community, Flows, Rows, State
from thesis_lib.community.observations import Observer, unit
from thesis_lib.community.reading import Reading, read_environment
from thesis_lib.maddpg import coordination, guard, household, networks
from thesis_lib.maddpg.coordination import Broadcast
from thesis_lib.maddpg.household import household_of
from thesis_lib.maddpg.networks import Policy
from thesis_lib.maddpg.training import CheckpointError, TrainConfig, TrainedPolicy, build_policy, load_policy
from thesis_lib.provenance import (
    ensure_writable,
    replacing,
    sha256,
    write_bytes_atomic,
    write_json_atomic,
    write_text_atomic,
)
from thesis_lib.serving.policy import FORMAT, seal

TOLERANCE = 1e-5  # largest difference of an action between the graph and torch
WEEK = 168  # hours
DRAWS = 65_536  # room in step.onnx for the drift draws of an edition, some 20,000
COMMUNICATED = {
    "none": "Nothing: each home's action depends on its own observation alone.",
    "broadcast": "Every meter to an aggregator each hour, and two sums back to all homes: the district's last net "
    "consumption and its uncontrolled net (load - PV).",
    "announce": "Every meter to an aggregator each hour, with what the home's cars lack, its battery holds and its "
    "appliance may start, and the sums back to all homes; then what it is about to take, and that sum back.",
    "mean_field": "Every home's features to an aggregator each hour, and the mean of the others' back.",
    "attention": "Every home's key and value to every home each hour.",
}


class ExportError(ValueError):
    """What stands in the way of an export; its text is one line that says what to do."""


# --- the graphs ---


class CommunityPolicy(nn.Module):
    """All homes: observations (B, N) and, with a late broadcast, memory (B,) -> actions (B, M), memory (B,)."""

    places: Tensor
    slots: Tensor

    def __init__(self, policy: Policy, observation_names: list[list[str]], action_names: list[list[str]]):
        super().__init__()
        self.policy = policy
        self.late = isinstance(policy.coordination, Broadcast) and policy.coordination.late
        self.homes = len(observation_names)
        sizes, slots = ([len(names) for names in lists] for lists in (observation_names, action_names))
        first = np.concatenate([[0], np.cumsum(sizes)])
        padded = np.full((self.homes, max(sizes)), first[-1])  # the column after the last is 0
        for home, size in enumerate(sizes):
            padded[home, :size] = first[home] + np.arange(size)
        taken = [home * max(slots) + slot for home, size in enumerate(slots) for slot in range(size)]
        self.register_buffer("places", torch.as_tensor(padded.flatten()), persistent=False)
        self.register_buffer("slots", torch.as_tensor(taken), persistent=False)

    def forward(self, observations: Tensor, memory: Tensor | None = None) -> Any:
        """See the class."""
        padded = torch.nn.functional.pad(observations, (0, 1)).index_select(1, self.places)
        padded = padded.view(observations.shape[0], self.homes, -1)
        heard = self.policy.coordination
        if isinstance(heard, Broadcast) and self.late:
            heard.before = None
            heard.sums(padded)  # in the first hour a home hears the sum of its own hour
            now = heard.before
            assert now is not None and memory is not None
            heard.before = torch.where(torch.isnan(memory), now, memory)
            actions = self.policy(padded)
            return actions.flatten(1).index_select(1, self.slots), heard.before
        return self.policy(padded).flatten(1).index_select(1, self.slots)


CYCLES = ("earliest", "latest", "deadline", "duration", "energy", "priority", "window", "profile")


class Observe(nn.Module):
    """What the homes see: (state, rows, cycles) -> observations (1, N), float64."""

    def __init__(self, community: Community):
        super().__init__()
        self.community, self.observer = community, Observer(community)
        shown = self.observer.mask.flatten().nonzero().flatten()
        self.register_buffer("shown", shown, persistent=False)

    def forward(self, state: list[Tensor], rows: list[Tensor], cycles: list[Tensor]) -> Tensor:
        """See the class."""
        community = _with_cycles(self.community, cycles)
        observer = copy.copy(self.observer)
        observer.community = community
        return observer(State(*state), _rows(community, rows)).flatten(1).index_select(1, self.shown)  # type: ignore[arg-type]


class Step(nn.Module):
    """One hour: (actions (1, M), state, rows, cycles, drift draws) -> the next state and the flows, float64."""

    def __init__(self, community: Community):
        super().__init__()
        self.community = community
        self.register_buffer("place", community.action_mask.flatten().nonzero().flatten(), persistent=False)

    def forward(
        self, actions: Tensor, state: list[Tensor], rows: list[Tensor], cycles: list[Tensor], drift_noise: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """See the class."""
        community = _with_cycles(self.community, cycles)
        community.drift_noise = drift_noise
        flat = torch.zeros(1, community.homes * community.slots, dtype=actions.dtype)
        flat = flat.index_copy(1, self.place, actions)  # type: ignore[arg-type]
        after, flows = community.step(
            State(*state), flat.view(1, community.homes, community.slots), _rows(community, rows)
        )
        return list(after), list(flows)


def _with_cycles(community: Community, cycles: list[Tensor]) -> Community:
    changed = copy.copy(community)
    for name, values in zip(CYCLES, cycles, strict=True):
        setattr(changed, f"cycle_{name}", values)
    return changed


def _rows(community: Community, rows: list[Tensor]) -> Rows:
    """``Rows`` from one line of the community's two tables and the appliances' clock."""
    floats, indices, clock = rows
    values = dict(zip(FLOATS, floats.split(community.widths, -1), strict=True))
    values |= dict(zip(INDICES, indices.split(community.index_widths, -1), strict=True))
    return Rows(**values, clock=clock)


@contextmanager
def _exporting() -> Iterator[None]:
    """``len(tensor)`` is a plain int to Python, so that a trace would keep the example's batch; ask for the shape."""

    def length(values: Any) -> Any:
        return values.shape[0] if isinstance(values, Tensor) else len(values)

    modules: list[Any] = [networks, guard, household, coordination]
    for module in modules:
        module.len = length
    chatty = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in chatty]
    for logger in chatty:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        for module in modules:
            del module.len
        for logger, level in zip(chatty, levels, strict=True):
            logger.setLevel(level)


def to_onnx(
    module: nn.Module,
    example: tuple[Any, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic: Any = None,
) -> bytes:
    """A module as an ONNX file.

    Args:
        module: in evaluation mode.
        example: what it is called with.
        inputs, outputs: names of the flattened arguments and results.
        dynamic: which dimensions may change, as ``torch.export`` wants it.

    Returns:
        The file's bytes.

    Raises:
        RuntimeError: an operator that ONNX does not have.
    """
    with _exporting():
        module = module.eval().requires_grad_(False)
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dynamic,
            optimize=True,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for graph in (proto.graph, *proto.functions):
        for node in graph.node:  # where in this checkout a node came from is of no use elsewhere
            node.doc_string = ""
            del node.metadata_props[:]
    del proto.graph.metadata_props[:], proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def with_card(graph: bytes, card: Mapping[str, Any]) -> bytes:
    """The ONNX file with a card, as JSON, in its metadata, and sealed. Never raises."""
    proto = onnx.load_from_string(graph)
    onnx.helper.set_model_props(proto, {"card": json.dumps(card)})
    return seal(proto.SerializeToString(deterministic=True))


def policy_graph(policy: Policy, community: Community) -> bytes:
    """The whole community's policy as an ONNX file; see the module for its inputs and outputs. Raises RuntimeError."""
    whole = CommunityPolicy(copy.deepcopy(policy).cpu(), community.observation_names, community.action_names)
    batch = torch.export.Dim("batch")
    # An example of 3: sizes 0 and 1 are special to the exporter.
    seen = torch.rand(3, sum(map(len, community.observation_names)))
    memory = (torch.full((3,), torch.nan),) if whole.late else ()
    names = ("observations", "memory")[: 1 + len(memory)]
    dynamic = tuple({0: batch} for _ in names)
    after = ("actions", "memory_after")[: len(names)]
    return to_onnx(whole, (seen, *memory), names, after, dynamic)


def home_graph(policy: Policy, config: TrainConfig, settings: dict[str, Any], reading: Reading, home: int) -> bytes:
    """One home's own policy as an ONNX file: observations (B, O) of its own -> actions (B, S).

    Args:
        policy: of the community, without communication.
        config: of the training.
        settings: the guard's, from the checkpoint.
        reading: the community.
        home: which.

    Raises:
        ExportError: the homes communicate.
        RuntimeError: an operator that ONNX does not have.
    """
    if config.coordination != "none":
        raise ExportError(f"coordination {config.coordination} needs the other homes: only none runs at one home alone")
    alone = Community(one_home(reading, home), dtype=torch.float32)
    width, slots = len(reading.observation_names[home]), len(reading.action_names[home])
    mean = policy.features.mean[home : home + 1, :width].clone()
    scale = policy.features.scale[home : home + 1, :width]
    deviation = torch.where(scale > 0, 1 / scale.clamp(min=1e-6), 0.0)
    own = build_policy(config, alone, household_of(alone, **settings), mean, deviation)
    with torch.no_grad():
        own.features.scale.copy_(scale)
        which = 0 if config.shared_actors else home
        read = own.features.size
        inputs = list(range(read))
        every = policy.actors.low.shape[1]
        outputs = [*range(slots), *range(every, every + slots)]
        last = len(own.actors.weights) - 1
        for layer, (weight, bias) in enumerate(zip(policy.actors.weights, policy.actors.biases, strict=True)):
            weight, bias = weight[which : which + 1], bias[which : which + 1]
            if layer == 0:
                weight = weight[:, inputs]
            if layer == last:
                weight, bias = weight[..., outputs], bias[..., outputs]
            own.actors.weights[layer].copy_(weight)
            own.actors.biases[layer].copy_(bias)
    return policy_graph(own, alone)


def one_home(reading: Reading, home: int) -> Reading:
    """A community of one home of another: its devices and the cars that its chargers ever see. Never raises."""
    chargers = np.flatnonzero(reading.charger["home"] == home)
    appliances = np.flatnonzero(reading.appliance["home"] == home)
    held = reading.indices["car"][:, chargers]
    cars = np.unique(held[held < len(reading.cars)])
    storage = np.concatenate([[home], len(reading.homes) + cars]).astype(int)
    none = len(cars)
    new_car = np.full(len(reading.cars) + 1, none)
    new_car[cars] = np.arange(none)
    new_charger = np.full(len(reading.chargers) + 1, len(chargers))
    new_charger[chargers] = np.arange(len(chargers))
    per_charger = ("connected", "departure", "required_soc", "incoming", "arrival", "arrival_soc")
    at_home = {"home": np.zeros(len(chargers), dtype=int)}
    return replace(
        reading,
        homes=[reading.homes[home]],
        chargers=[reading.chargers[i] for i in chargers],
        cars=[reading.cars[i] for i in cars],
        appliances=[reading.appliances[i] for i in appliances],
        observation_names=[reading.observation_names[home]],
        action_names=[reading.action_names[home]],
        action_low=[reading.action_low[home]],
        action_high=[reading.action_high[home]],
        storage={key: values[storage] for key, values in reading.storage.items()},
        power_curve=[reading.power_curve[i] for i in storage],
        efficiency_curve=[reading.efficiency_curve[i] for i in storage],
        charger={key: values[chargers] for key, values in reading.charger.items()} | at_home,
        appliance={key: values[appliances] for key, values in reading.appliance.items()}
        | {"home": np.zeros(len(appliances), dtype=int)},
        blocks=reading.blocks
        | {key: reading.blocks[key][:, [home]] for key in ("load", "pv")}
        | {key: reading.blocks[key][:, chargers] for key in per_charger}
        | {key: reading.blocks[key][:, cars] for key in ("keep", "floor", "forced")},
        indices={
            "charger": new_charger[reading.indices["charger"][:, cars]],
            "car": new_car[held],
            "drift": reading.indices["drift"][:, cars],
        },
        start_soc=reading.start_soc[:, cars],
        price_column=reading.price_column[[home]],
        carbon_column=reading.carbon_column[[home]],
        exogenous={(0, name): source for (owner, name), source in reading.exogenous.items() if owner == home},
    )


def community_graphs(community: Community, reading: Reading) -> dict[str, bytes]:
    """``observe.onnx`` and ``step.onnx`` of a community in float64, one copy. Raises RuntimeError."""
    # Some of a fresh state's tensors are one and the same; the exporter would take them for one input.
    state = [values.clone() for values in community.reset(1)]
    first = torch.zeros(1, dtype=torch.long)
    rows = [community.table[:1], community.index_table[:1], first.expand(1, community.appliances).contiguous()]
    cycles = [getattr(community, f"cycle_{name}") for name in CYCLES]
    actions = torch.zeros(1, int(community.action_mask.sum()), dtype=community.dtype)
    fields, flows = list(State._fields), list(Flows._fields)
    names = ["rows", "row_indices", "clock", *(f"cycle_{name}" for name in CYCLES)]
    # Another edition has other cycles, and another number of drift draws. The step asks for that number in Python,
    # which the exporter would take for a constant: the draws come padded to a size that no edition reaches.
    count, longest = torch.export.Dim("cycles"), torch.export.Dim("longest")
    draws = nn.functional.pad(community.drift_noise, (0, DRAWS - len(community.drift_noise)))
    changing: list[Any] = [{1: count} for _ in CYCLES]
    changing[-1] = {1: count, 2: longest}
    fixed: list[Any] = [[None] * len(state), [None] * len(rows)]
    about = {
        "community": community.fingerprint,
        "homes": community.home_names,
        "observation_names": community.observation_names,
        "action_names": community.action_names,
        "chargers": community.charger_names,
        "charger_home": community.charger_home.tolist(),
        "charger_car": community.charger_car.tolist(),
        "cars": community.car_names,
        "appliances": community.appliance_names,
        "appliance_home": community.appliance_home.tolist(),
        "floats": list(FLOATS),
        "widths": community.widths,
        "indices": list(INDICES),
        "index_widths": community.index_widths,
        **{key: reading.storage[key].tolist() for key in ("capacity", "initial_soc", "minimum_soc", "keep")},
    }
    seen = (state, rows, cycles)
    observe = to_onnx(Observe(community), seen, [*fields, *names], ["observations"], (*fixed, changing))
    step = to_onnx(
        Step(community),
        (actions, *seen, draws),
        ["actions", *fields, *names, "drift_noise"],
        [*(f"{name}_after" for name in fields), *(f"flow_{name}" for name in flows)],
        (None, *fixed, changing, None),
    )
    return {"observe.onnx": seal(observe), "step.onnx": with_card(step, about)}


# --- the card ---


def version(card: Mapping[str, Any], graph: bytes) -> str:
    """Of the graph's own bytes, so that two graphs of one checkpoint are told apart. Never raises."""
    return f"{card['variant']}-seed_{card['seed']}-{hashlib.sha256(graph).hexdigest()[:12]}"


def make_card(
    policy: TrainedPolicy, checkpoint: Path, edition: str, variant: str, community: Community, run: Path | None
) -> dict[str, Any]:
    """What the policy is, what it was measured to do, what it is for; all but what depends on the graph.

    Args:
        policy: as loaded.
        checkpoint: its file.
        edition: of the data it was trained on.
        variant: its name in tables.
        community: the community.
        run: folder of its evaluation (kpis.csv, run.json); None where there was none.

    Raises:
        ExportError: the evaluation is of another policy or incomplete.
    """
    about = policy.checkpoint
    config = about["config"]
    digest = sha256(checkpoint)
    evaluated = None
    if run is not None:
        evaluated = _evaluation(run, about, edition, variant, digest)
    homes = [
        {
            "name": name,
            "observations": [{"name": entry, "unit": unit(entry)} for entry in seen],
            "actions": [
                {"name": entry, "low": float(low), "high": float(high)}
                for entry, low, high in zip(done, lows, highs, strict=False)
            ],
        }
        for name, seen, done, lows, highs in zip(
            community.home_names,
            community.observation_names,
            community.action_names,
            policy.policy.actors.low.tolist(),
            policy.policy.actors.high.tolist(),
            strict=True,
        )
    ]
    late = config["coordination"] == "broadcast" and config["broadcast_delay"] == 1
    return {
        "format": FORMAT,
        "controller": CONTROLLER,
        "variant": variant,
        "seed": about["seed"],
        "edition": edition,
        "community": policy.fingerprint,
        "communication": COMMUNICATED[config["coordination"]],
        "memory": ["memory"] if late else [],
        "checkpoint": {
            "sha256": digest,
            "updates": about["updates"],
            "training_seconds": round(about["seconds"], 1),
            "validation_composite": about["best"],
            "versions": about["versions"],
        },
        "guard": about["guard_settings"] if config["guard"] else None,
        "evaluation": evaluated,
        "intended_use": "Hourly set-points for the batteries, car chargers and the deferrable appliance "
        "of the homes of this one community, in simulation and for the study of latency.",
        "limits": [
            "Trained and evaluated in simulation on one year of one community; no real home was controlled.",
            "Only for homes with these names, devices and observations, in this order and these units.",
            "The observations hold exact forecasts of price, irradiance and temperature 6, 12 and 24 hours ahead, as "
            "CityLearn gives them; with real forecasts it does worse by an amount that was not measured here.",
            "The guard keeps a car's disclosed departure within reach as long as the charger's and the car's data are "
            "true; a car that hides its departure is charged at a pace fitted on training sessions.",
            "There is no heating, cooling or hot-water action in this community.",
        ],
        "homes": homes,
    }


def home_card(card: Mapping[str, Any], home: int, graph: bytes) -> dict[str, Any]:
    """The card of one home's own graph, from the community's. Never raises."""
    kept = ("format", "controller", "variant", "seed", "edition", "community", "communication", "memory", "checkpoint")
    return {name: card[name] for name in kept} | {"homes": [card["homes"][home]], "version": version(card, graph)}


def _evaluation(run: Path, about: Mapping[str, Any], edition: str, variant: str, checkpoint: str) -> dict[str, Any]:
    """The KPIs and the record of a run's folder, which must be of this very policy."""
    for name in ("kpis.csv", "run.json"):
        if not (run / name).is_file():
            raise ExportError(f"{run / name} is missing: evaluate the policy first, or leave --run out")
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    rows = pd.read_csv(run / "kpis.csv")
    own = {"edition": edition, "controller": CONTROLLER, "variant": variant, "seed": about["seed"]}
    for name, value in own.items():
        if set(rows[name]) != {value}:
            raise ExportError(f"{run} is of another {name} than the checkpoint, {value}: give its own run")
    if (record.get("training") or {}).get("checkpoint") != checkpoint:
        raise ExportError(f"{run} is of another checkpoint, of a training before or since: evaluate this one")
    kept = ["engine", "split", "kpi", "value", "unit"]
    rows = rows[rows.split.isin(["test", "year"])][kept].dropna(subset=["value"])
    return {
        "git": record.get("git"),
        "recipe": record.get("recipe"),
        "written": record.get("written"),
        "kpis": [
            {**line, "unit": str(line["unit"])}
            for line in rows.assign(value=rows.value.astype(float)).to_dict("records")
        ],
    }


def describe(card: Mapping[str, Any]) -> str:
    """The card as Markdown, for people."""
    lines = [
        f"# {card['version']}",
        "",
        f"Cooperative MADDPG, variant `{card['variant']}`, seed {card['seed']}, trained on the {card['edition']} "
        f"edition ({card['checkpoint']['updates']} updates). Seed 0 was declared beforehand as the one that is served"
        f"{'; no seed is chosen by its result' if card['seed'] == 0 else ': this one is another'}.",
        "",
        "## What the homes tell each other",
        "",
        card["communication"],
        "",
        "## Measured",
        "",
    ]
    if card["evaluation"]:
        rows = [row for row in card["evaluation"]["kpis"] if row["engine"] == "citylearn"]
        rows = rows or card["evaluation"]["kpis"]
        lines += [f"Engine: {rows[0]['engine']}.", "", "| KPI | split | value | unit |", "| --- | --- | --- | --- |"]
        lines += [f"| {row['kpi']} | {row['split']} | {row['value']:.6g} | {row['unit']} |" for row in rows]
    else:
        lines.append("No evaluation was given to the export.")
    parity = card["parity"]
    lines += [
        "",
        f"The graph's actions differ from torch's by at most {parity['largest_difference']:.1e} over {parity['hours']} "
        "hours of observations met under the policy.",
        "",
        "## Intended use",
        "",
        card["intended_use"],
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in card["limits"]),
        "",
        "## Observations and actions",
        "",
        "Names, units, order and bounds of each home are in `card.json`, and in `GET /schema`.",
        "",
        "| home | observations | actions |",
        "| --- | --- | --- |",
    ]
    for home in card["homes"]:
        actions = ", ".join(f"`{entry['name']}` [{entry['low']:g}, {entry['high']:g}]" for entry in home["actions"])
        lines.append(f"| {home['name']} | {len(home['observations'])} | {actions} |")
    return "\n".join(lines) + "\n"


# --- what is compared ---


def recorded(policy: Policy, community: Community) -> tuple[Tensor, Tensor]:
    """What is met under the policy in every week of the year, each begun anew, and what it does, float32.

    Returns:
        Observations (168, weeks, H, O) and actions (168, weeks, H, S): hour of the week, week.

    Raises:
        ValueError: fewer rows than a week.
    """
    last = community.rows - 1 - WEEK
    starts = torch.tensor([*range(0, last, WEEK), last])
    state, observer = community.reset(len(starts), starts, WEEK), Observer(community)
    seen, done = [], []
    policy.reset()
    with torch.inference_mode():
        for _ in range(WEEK):
            rows = community.read(state.row)
            observations = observer(state, rows).float()
            actions = policy(observations)
            seen.append(observations)
            done.append(actions)
            state, _ = community.step(state, actions.to(community.dtype), rows)
    policy.reset()
    return torch.stack(seen), torch.stack(done)


def flat(padded: Tensor, names: list[list[str]]) -> np.ndarray:
    """Padded observations or actions (..., H, n) -> the graph's (..., N), homes one after the other. Never raises."""
    return torch.cat([padded[..., home, : len(own)] for home, own in enumerate(names)], -1).numpy()


def difference(graph: bytes, community: Community, seen: Tensor, done: Tensor) -> float:
    """Largest difference of an action between the graph and torch, which did ``done`` where it saw ``seen``.

    Raises what ONNX Runtime raises.
    """
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    observations, wanted = flat(seen, community.observation_names), flat(done, community.action_names)
    given: dict[str, np.ndarray] = {}
    if len(session.get_inputs()) > 1:
        given["memory"] = np.full(observations.shape[1], np.nan, np.float32)
    worst = 0.0
    for hour, actions in zip(observations, wanted, strict=True):
        found, *memory = session.run(None, {"observations": hour, **given})
        given = dict(zip(given, memory, strict=True))
        worst = max(worst, float(np.abs(found - actions).max()))
    return worst


def export(checkpoint: Path, out: Path, data: Dataset, variant: str | None = None, run: Path | None = None) -> Path:
    """Write a checkpoint's graphs and card.

    Args:
        checkpoint: ``best.pt``.
        out: folder, made if missing; files in it are replaced one by one, ``policy.onnx`` last.
        data: the edition the policy was trained on.
        variant: its name; the coordination's if not given.
        run: folder of its evaluation.

    Returns:
        The folder.

    Raises:
        ExportError: the checkpoint is of another learner or other settings, the graph does not do what torch does, or
            the evaluation is of another policy.
        CheckpointError, FileNotFoundError: see `load_policy`.
        OSError: the folder cannot be written.
    """
    env = datasets.load(data)
    env.reset()
    reading = read_environment(env)
    community = Community(reading, dtype=torch.float64)
    try:
        trained = load_policy(checkpoint, community)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise ExportError(
            f"{checkpoint} was trained with other settings than {CONTROLLER} has now ('{key}' is the first): it is of "
            "another learner or an older version; give one of its own, trained anew"
        ) from None
    config = TrainConfig(**trained.checkpoint["config"])
    card = make_card(trained, checkpoint, data.edition, variant or config.coordination, community, run)
    ensure_writable(out)
    seen, done = recorded(trained.policy, community)
    graph = policy_graph(trained.policy, community)
    worst = difference(graph, community, seen, done)
    if not worst <= TOLERANCE:
        raise ExportError(f"the graph's actions differ from torch's by {worst:.1e}, more than {TOLERANCE:g}")
    card["version"] = version(card, graph)
    card["parity"] = {"largest_difference": worst, "hours": seen.shape[0] * seen.shape[1]}
    graphs = {}
    if config.coordination == "none":
        for home, name in enumerate(community.home_names):
            alone = home_graph(trained.policy, config, trained.checkpoint["guard_settings"], reading, home)
            graphs[f"homes/{name}.onnx"] = with_card(alone, home_card(card, home, alone))
    graphs |= community_graphs(community, reading)
    graphs["policy.onnx"] = with_card(graph, card)
    if checkpoint.resolve() != (out / "best.pt").resolve():
        with replacing(out / "best.pt") as temporary:
            shutil.copyfile(checkpoint, temporary)
    if config.coordination != "none" and (out / "homes").is_dir():  # an earlier model's, who need nobody's word
        shutil.rmtree(out / "homes")
    write_json_atomic(out / "card.json", card)
    write_text_atomic(out / "README.md", describe(card))
    for name, content in graphs.items():
        write_bytes_atomic(out / name, content)
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Export a trained policy for the service.

    Exit status 0, or 1 after a one-line error on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m thesis_lib.serving.export", description=main.__doc__)
    parser.add_argument("checkpoint", type=Path, help="best.pt of a training")
    parser.add_argument("--out", type=Path, required=True, help="folder for graphs and card, such as models/broadcast")
    parser.add_argument("--edition", required=True, choices=["official", "offline"], help="that it was trained on")
    parser.add_argument("--variant", help="its name in tables (default: its coordination)")
    parser.add_argument("--run", type=Path, help="folder of its evaluation: kpis.csv, run.json (default: none)")
    given = parser.parse_args(arguments)
    try:
        data = datasets.find(given.edition)
        out = export(given.checkpoint, given.out, data, given.variant, given.run)
    except (ExportError, CheckpointError, DatasetError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = (out / "policy.onnx").stat().st_size
    print(f"{out}: policy.onnx of {size / 1024:.0f} KiB, {data.edition} edition", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
