"""One episode of the real community: the exported step, the data set's series, the served policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from thesis_lib.serving import data
from thesis_lib.serving.policy import ModelError, ServedPolicy, open_graph, read_card, run
from thesis_lib.serving.schemas import Episode, SimulatedHour

Array = NDArray[Any]


class Community(BaseModel):
    """What the service needs to know of the community in ``step.onnx``; see `export.community_graphs`."""

    community: str
    homes: list[str]
    observation_names: list[list[str]]
    action_names: list[list[str]]
    chargers: list[str]
    charger_home: list[int]
    charger_car: list[int]
    cars: list[str]
    appliances: list[str]
    floats: list[str]
    widths: list[int]
    indices: list[str]
    index_widths: list[int]
    capacity: list[float]
    initial_soc: list[float]
    minimum_soc: list[float]
    keep: list[float]


class EpisodeError(ValueError):
    """A step that cannot be taken; its text is one line."""


class Simulation:
    """The server's episode. Rows are hours after 2024-08-01 00:00."""

    def __init__(self, folder: Path, policy: ServedPolicy, dataset: Path | None):
        """Open the graphs and read the series.

        Raises:
            ModelError: no graphs of the community beside the policy, or those of another community.
            DataError: no data set of the policy's edition.
        """
        self.policy = policy
        graphs = []
        for name in ("observe.onnx", "step.onnx"):
            try:
                graphs.append(open_graph((folder / name).read_bytes()))
            except OSError as error:
                raise ModelError(f"{name} cannot be read ({error.strerror})") from None
        self.observe, self.step_graph = graphs
        self.about, _ = read_card(self.step_graph, Community, "step.onnx")
        if self.about["community"] != policy.card["community"]:
            raise ModelError("step.onnx is of another community than the policy: export the model again")
        self.series = data.read(dataset, policy.card["edition"], self.about)
        # The graph has room for the draws of any edition; those beyond an edition's own are never asked for.
        (room,) = next(value.shape for value in self.step_graph.get_inputs() if value.name == "drift_noise")
        if (missing := room - len(self.series.drift_noise)) < 0:
            raise ModelError(f"step.onnx has room for {room} drift draws, too few for this data set: export it again")
        self.drift_noise = np.pad(self.series.drift_noise, (0, missing))
        self.state: dict[str, Array] | None = None
        self.seen = np.zeros((1, 0))

    def reset(self, start: int) -> Episode:
        """Begin at a row, as ``Community.reset``.

        Raises:
            EpisodeError: no hour can be simulated from there.
            ModelError: a graph fails.
        """
        series, about = self.series, self.about
        if start > series.rows - 2:
            raise EpisodeError(f"start: {start} is beyond the last row that can be acted in, {series.rows - 2}")
        homes, appliances = len(about["homes"]), len(about["appliances"])
        known = series.start_soc[start]
        soc = np.array(about["initial_soc"])
        soc[homes:] = np.where(known >= 0, known, soc[homes:])
        soc = soc.astype(np.float32).astype(np.float64)[np.newaxis]
        load, pv = self._block("load", start), self._block("pv", start)
        none = np.full((1, appliances), -1)
        self.state = {
            "row": np.array([start]),
            "end": np.array([series.rows]),
            "drift": series.drift_base[start : start + 1],
            "soc": soc,
            "capacity": np.array(about["capacity"])[np.newaxis],
            "soc_before": soc,
            "net": (load - pv).astype(np.float32).astype(np.float64)[np.newaxis],
            "day_peak": np.zeros(1),
            "home_day_peak": np.zeros((1, homes)),
            "next_cycle": self._block("alive", start)[np.newaxis],
            "last_cycle": np.full((1, appliances), series.cycles["latest"].shape[-1] - 1),
            "started_at": none,
            "missed_cycle": none,
        }
        self._look()
        return self._episode([])

    def step(self, hours: int, actions: list[list[float]] | None = None) -> Episode:
        """Go on by some hours, or to the end of the data.

        Raises:
            EpisodeError: no episode, or actions that do not fit.
            ModelError: a graph fails; the episode stands after the last hour before.
        """
        if self.state is None:
            raise EpisodeError("no episode yet: POST /simulate/reset first")
        given = None
        if actions is not None:
            if hours != 1:
                raise EpisodeError("actions: given for one hour only")
            if [*map(len, actions)] != self.policy.action_sizes:
                raise EpisodeError(f"actions: expected lists of {self.policy.action_sizes} values")
            given = np.array([[value for values in actions for value in values]])
        done = []
        for _ in range(hours):
            if self._ended():
                break
            chosen = given if given is not None else self.policy.act(self.seen.astype(np.float32)).astype(np.float64)
            done.append(self._hour(chosen))
        return self._episode(done)

    def _ended(self) -> bool:
        return self.state is None or int(self.state["row"][0]) >= self.series.rows - 1

    def _hour(self, actions: Array) -> SimulatedHour:
        assert self.state is not None
        row = int(self.state["row"][0])
        inputs = {"actions": actions, "drift_noise": self.drift_noise, **self._inputs(row)}
        wanted = {value.name for value in self.step_graph.get_inputs()}
        names = [value.name for value in self.step_graph.get_outputs()]
        found = dict(zip(names, run(self.step_graph, {k: v for k, v in inputs.items() if k in wanted}), strict=True))
        self.state = {name: found[f"{name}_after"] for name in self.state}
        if not self._ended():
            self._look()
        flows = {name.removeprefix("flow_"): value[0] for name, value in found.items() if name.startswith("flow_")}
        lists = {
            name: flows[name].tolist()
            for name in ("net", "battery", "battery_soc", "chargers", "car_soc", "appliances")
        }
        return SimulatedHour(
            row=row,
            price=float(self.series.price[row]),
            carbon=float(self.series.carbon[row]),
            load=self._block("load", row).tolist(),
            pv=self._block("pv", row).tolist(),
            cost=float(flows["cost"].sum()),
            emissions=float(flows["emissions"].sum()),
            actions=self.policy.unpack(actions[0]),
            **lists,
        )

    def _look(self) -> None:
        assert self.state is not None
        inputs = self._inputs(int(self.state["row"][0]))
        wanted = {value.name for value in self.observe.get_inputs()}
        self.seen = run(self.observe, {name: value for name, value in inputs.items() if name in wanted})[0]

    def _inputs(self, row: int) -> dict[str, Array]:
        series = self.series
        assert self.state is not None
        return {
            **self.state,
            "rows": series.table[row : row + 1],
            "row_indices": series.index_table[row : row + 1],
            "clock": np.full((1, len(self.about["appliances"])), row),
            **{f"cycle_{name}": values for name, values in series.cycles.items()},
        }

    def _block(self, name: str, row: int) -> Array:
        """One field of the row: see ``Rows``."""
        floats, table = name in self.about["floats"], self.series.table
        names, widths = ("floats", "widths") if floats else ("indices", "index_widths")
        place = self.about[names].index(name)
        first = sum(self.about[widths][:place])
        values: Array = (table if floats else self.series.index_table)[row, first : first + self.about[widths][place]]
        return values

    def _episode(self, hours: list[SimulatedHour]) -> Episode:
        assert self.state is not None
        lists, first = [], 0
        for size in self.policy.sizes:
            lists.append(self.seen[0, first : first + size].tolist())
            first += size
        return Episode(
            edition=self.series.edition,
            dataset=self.series.folder.name,
            model_version=self.policy.version,
            variant=self.policy.card["variant"],
            row=int(self.state["row"][0]),
            ended=self._ended(),
            homes=self.about["homes"],
            chargers=[
                {"name": name, "home": self.about["homes"][home], "car": self.about["cars"][car]}
                for name, home, car in zip(
                    self.about["chargers"], self.about["charger_home"], self.about["charger_car"], strict=True
                )
            ],
            hours=hours,
            observations=lists,
        )
