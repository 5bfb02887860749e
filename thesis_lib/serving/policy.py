"""A served policy: one ``policy.onnx`` and the card in its metadata. ONNX Runtime and NumPy, no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import BaseModel

from thesis_lib.serving.schemas import Home

FORMAT = 1  # of the card; `export` writes it
LARGEST = 1e6  # no observation of a home is beyond it; far beyond, a number would not fit what the graph counts with
# How a sealed file ends: ONNX's field 14, metadata_props, once more, with the entry sha256: 64 hexadecimal digits.
SEAL = b"\x72\x4a\x0a\x06sha256\x12\x40"
Kind = TypeVar("Kind", bound=BaseModel)


class Policy(BaseModel):
    """What the service needs to know of a policy; `export` writes more."""

    format: int
    version: str
    edition: str
    variant: str
    community: str
    communication: str
    memory: list[str]
    homes: list[Home]


class ModelError(ValueError):
    """A model file that cannot be served; its text is one line."""


class ObservationError(ValueError):
    """An observation that cannot be used, with the home and the field it is about."""

    def __init__(self, message: str, home: str | None = None, field: str | None = None):
        super().__init__(message)
        self.home, self.field = home, field


def seal(data: bytes) -> bytes:
    """An ONNX file with the checksum of its bytes in its metadata: two messages of protobuf in a row are one.

    A file with a flipped bit in its weights can be opened, and acts; only a checksum tells. Never raises.
    """
    return data + SEAL + hashlib.sha256(data).hexdigest().encode()


def open_graph(data: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A sealed ONNX file as a session on the CPU; ``threads`` for one inference.

    Raises:
        ModelError: it is none, or damaged.
    """
    if data != seal(data[: -len(SEAL) - 64]):
        raise ModelError("not the bytes that thesis_lib.serving.export sealed: damaged, or not written by it")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # Each run has the sizes of the run before: nothing to plan, and no memory that grows.
    options.enable_mem_pattern = True
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a dozen classes of its own, without a common one
        raise ModelError(f"not a readable ONNX file ({type(error).__name__})") from None


def run(session: onnxruntime.InferenceSession, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """What a graph answers.

    Raises:
        ModelError: it fails.
    """
    try:
        answer: list[NDArray[Any]] = session.run(None, inputs)
    except Exception as error:  # as above
        raise ModelError(f"the graph failed ({type(error).__name__})") from None
    return answer


def read_card(session: onnxruntime.InferenceSession, kind: type[Kind], name: str) -> tuple[dict[str, Any], Kind]:
    """The card in a graph's metadata: all of it, and what the service needs of it.

    Args:
        session: of the graph.
        kind: what the service needs.
        name: of the file.

    Raises:
        ModelError: there is no such card.
    """
    try:
        # Any bytes may stand there: no UTF-8, no JSON, brackets without end, other fields.
        card = json.loads(session.get_modelmeta().custom_metadata_map["card"])
        return card, kind.model_validate(card)
    except (KeyError, ValueError, RecursionError):
        what = f"{name} holds no card of a {kind.__name__.lower()}"
        raise ModelError(f"{what}: thesis_lib.serving.export did not write it") from None


class ServedPolicy:
    """A policy that has answered once.

    Attributes:
        card: see `export`.
        version: the card's.
        homes: names, in CityLearn's order.
        observations, actions: names of each home's, in CityLearn's order.
    """

    def __init__(self, path: Path, threads: int = 1):
        """Read, check and warm up.

        Raises:
            ModelError: no such file, damaged, another kind of graph, or an answer that is no number.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path.name} cannot be read ({error.strerror})") from None
        self.session = open_graph(data, threads)
        self.card, about = read_card(self.session, Policy, path.name)
        if about.format != FORMAT:
            raise ModelError(f"{path.name} has a card of format {about.format}, this service reads {FORMAT}")
        if kept := ", ".join(about.memory):
            raise ModelError(f"{path.name} remembers {kept} between hours: the service keeps nothing")
        self.version = about.version
        self.homes = [home.name for home in about.homes]
        self.observations = [[entry.name for entry in home.observations] for home in about.homes]
        self.actions = [[entry.name for entry in home.actions] for home in about.homes]
        self.sizes = [len(names) for names in self.observations]
        self.action_sizes = [len(names) for names in self.actions]
        self.sha256 = hashlib.sha256(data).hexdigest()
        wanted = [("observations", [sum(self.sizes)]), ("actions", [sum(self.action_sizes)])]
        values = [*self.session.get_inputs(), *self.session.get_outputs()]
        # The first dimension is the batch; of a scalar, which has none, nothing is left either.
        if [(value.name, value.shape[1:]) for value in values] != wanted:
            raise ModelError(f"{path.name} has other inputs or outputs than its card says")
        self.act(np.zeros((1, sum(self.sizes)), np.float32))

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Observations (B, N) -> actions (B, M), homes one after the other.

        Raises:
            ModelError: the graph fails, or its answer is no number.
        """
        actions: NDArray[np.float32] = run(self.session, {"observations": observations})[0]
        if not np.isfinite(actions).all():
            raise ModelError("the graph's answer is no number")
        return actions

    def pack(self, observations: Sequence[Sequence[float]]) -> NDArray[np.float32]:
        """CityLearn's lists, one a home -> (1, N).

        Raises:
            ObservationError: another number of homes or values, or a value that no home can observe.
        """
        if [*map(len, observations)] != self.sizes:
            if len(observations) != len(self.homes):
                raise ObservationError(
                    f"observations: {len(observations)} homes, expected {len(self.homes)}", field="observations"
                )
            for home, values, names in zip(self.homes, observations, self.observations, strict=True):
                if len(values) < len(names):
                    raise ObservationError(
                        f"{home}: {len(values)} values, expected {len(names)}; {names[len(values)]} is missing",
                        home,
                        names[len(values)],
                    )
                if len(values) > len(names):
                    raise ObservationError(
                        f"{home}: {len(values)} values, expected {len(names)}; nothing follows {names[-1]}",
                        home,
                        names[-1],
                    )
        flat = np.fromiter(chain.from_iterable(observations), np.float64, sum(self.sizes))
        usable = np.abs(flat) <= LARGEST  # NaN is not
        if not usable.all():
            home, field = self.place(int(np.flatnonzero(~usable)[0]))
            raise ObservationError(f"{home}: {field} is not a number between -1e6 and 1e6", home, field)
        return flat.astype(np.float32)[np.newaxis]

    def place(self, column: int) -> tuple[str, str]:
        """The home and the name of a column of the packed observations."""
        for home, names in zip(self.homes, self.observations, strict=True):
            if column < len(names):
                return home, names[column]
            column -= len(names)
        raise IndexError(column)

    def unpack(self, actions: NDArray[np.float32]) -> list[list[float]]:
        """Actions (M,) -> CityLearn's lists, one a home."""
        values, lists, first = actions.tolist(), [], 0
        for size in self.action_sizes:
            lists.append(values[first : first + size])
            first += size
        return lists
