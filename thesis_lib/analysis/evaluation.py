"""Every controller through the same year, in the same engines, to rows of the same table.

A run leaves in ``results/<profile>/runs/<edition>/<controller>/<variant>/seed_<n>/``:

- ``kpis.csv``: its rows of the long table (COLUMNS);
- ``weekly.csv``: the composite's terms in each test week (engine, week, kpi, value);
- ``hourly.csv.gz``: engine, row, net (district, kWh, signed);
- ``homes.csv``: what each home pays (engine, split, home, value in EUR), unless homes are replicated;
- ``flows.csv.gz`` for seed 0: row, then battery/<home>, charger/<charger>, appliance/<appliance> (kWh) and
  battery_soc/<home>, car_soc/<car> after the hour, in the first engine asked for;
- ``run.json``: what made it, with the time of a decision (``decision_seconds``, by engine) of a controller that
  measures it. It is written last: where it stands, the rest is whole.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from thesis_lib import paths
from thesis_lib.community import dataset as datasets
from thesis_lib.community import original
from thesis_lib.community.dataset import Dataset, DatasetError
from thesis_lib.community.kpis import UNITS, WEIGHTS, Service, Trajectory, evaluate, weekly
from thesis_lib.community.model import Community
from thesis_lib.community.observations import Observer
from thesis_lib.community.reading import read_environment
from thesis_lib.community.replication import replicated
from thesis_lib.community.splits import SPLITS, blocks
from thesis_lib.config import ConfigError, load_config
from thesis_lib.controllers import CONTROLLERS, Controller
from thesis_lib.controllers.linear import SolverError
from thesis_lib.controllers.tuned import read_settings
from thesis_lib.provenance import (
    Stopwatch,
    ensure_writable,
    recipe,
    run_record,
    write_csv_atomic,
    write_json_atomic,
)

FILES = ("kpis.csv", "weekly.csv", "hourly.csv.gz", "run.json")
WEEKLY = ["engine", "week", "kpi", "value"]
BILLS = ["engine", "split", "home", "value"]
COLUMNS = ["edition", "controller", "variant", "seed", "split", "kpi", "value", "unit", "engine"]
ENGINES = ("citylearn", "model")
REFERENCE = "business_as_usual"
SERVICE = ["ev_departures_met", "appliance_cycles_served"]  # what the gate asks for
GATE = 0.99  # least share of the feasible departures that must be met
FLOWS_DECIMALS = 3  # Wh, and thousandths of SOC: enough to draw, small enough to keep
CAR_SOC_DECIMALS = 6  # a departure is met or missed by less than a thousandth


class EvaluationError(ValueError):
    """Something that stands in the way of an evaluation; its text is one line that says what to do."""


def evaluate_controller(
    name: str,
    variant: str,
    seed: int,
    controller: Controller | Callable[[], Controller],
    dataset: Dataset,
    profile: str,
    engines: Sequence[str] = ("citylearn",),
    *,
    settings: Mapping[str, Any] | None = None,
    code: Sequence[Path] = (),
    homes: int = 0,
    config: Mapping[str, Any] | Any = None,
    end: int | None = None,
    stopwatch: Stopwatch | None = None,
    device: str = "cpu",
    progress: bool = True,
    force: bool = False,
    **about: Any,
) -> pd.DataFrame:
    """Roll a controller through one continuous year, measure it and leave its rows.

    Nothing is rolled if the folder already holds the rows of the same recipe (`recipe_of`): the data, the
    engines, the settings and the code they depend on.

    Args:
        name: controller, as in the registry.
        variant: what differs from the controller's usual form; "default" elsewhere.
        seed: of the controller; 0 for deterministic ones.
        controller: the controller, or a function that makes it (called only if there is something to roll).
        dataset: the edition.
        profile: whose folder of results.
        engines: "citylearn", "model" or both. The model runs in float64.
        settings: all that makes this controller what it is.
        code: files of the library that it depends on, besides the community's and the rules' own.
        homes: as many, the data set's own or replicated (`replicated`); 0 for the data set's, all of them.
        config: the whole configuration of the run, for run.json.
        end: last row; None for the year. For small trials: the reference must have the same.
        stopwatch: times the stages of this run; the caller may have put training in it.
        device: for run.json.
        progress: whether CityLearn's progress is said on stderr.
        force: roll even if the rows are there.
        **about: further entries of run.json.

    Returns:
        The rows, columns COLUMNS.

    Raises:
        EvaluationError: an unknown engine, more homes than CityLearn has where it is to roll, no rows of business as
            usual for this edition, engine and window, or a NaN among the controller's actions.
        OSError: results cannot be written there.

    Source:
        docs/protocol.md.
    """
    unknown = sorted(set(engines) - set(ENGINES))
    if unknown or not engines:
        raise EvaluationError(f"unknown engine {', '.join(unknown) or '(none)'}: choose from {', '.join(ENGINES)}.")
    if homes and "citylearn" in engines:
        raise EvaluationError(f"citylearn cannot roll {homes} homes: choose a profile whose engines are [model].")
    folder = paths.run(profile, dataset.edition, name, variant, seed)
    usual = {} if name == REFERENCE else references(profile, dataset, engines, homes, end)
    ensure_writable(folder)
    made_from = recipe_of(name, seed, dataset, engines, settings, code=code, homes=homes, end=end)
    if not force and recorded_recipe(folder) == made_from:
        return read_rows(folder / "kpis.csv")
    if isinstance(controller, type) or not isinstance(controller, Controller):
        controller = controller()

    watch = stopwatch or Stopwatch()
    tables, hourly, weeks, paid, flows = [], [], [], [], None
    decisions: dict[str, dict[str, float]] = {}
    for engine in engines:
        with watch(f"evaluation_{engine}"):
            run, service, community = roll(controller, dataset, engine, homes=homes, end=end, progress=progress)
        if seconds := getattr(controller, "seconds", None):
            decisions[engine] = _spread(seconds)
        table = evaluate(run, service, usual.get(engine))
        if name == REFERENCE:
            table = evaluate(run, service, table)
        identity = {
            "edition": dataset.edition,
            "controller": name,
            "variant": variant,
            "seed": seed,
            "engine": engine,
        }
        tables.append(table.assign(**identity)[COLUMNS])
        hourly.append(pd.DataFrame({"engine": engine, "row": run.rows, "net": run.district.round(FLOWS_DECIMALS)}))
        weeks.append(weekly(run, service).assign(engine=engine)[WEEKLY])
        if not homes:
            paid.append(bills(run, community.home_names).assign(engine=engine)[BILLS])
            flows = controlled(run, community) if flows is None else flows
    rows = pd.concat(tables, ignore_index=True)

    (folder / "run.json").unlink(missing_ok=True)
    write_csv_atomic(folder / "hourly.csv.gz", pd.concat(hourly, ignore_index=True))
    if paid:
        write_csv_atomic(folder / "homes.csv", pd.concat(paid, ignore_index=True))
    if seed == 0 and flows is not None:
        write_csv_atomic(folder / "flows.csv.gz", flows)
    write_csv_atomic(folder / "weekly.csv", pd.concat(weeks, ignore_index=True))
    write_csv_atomic(folder / "kpis.csv", rows)
    record = run_record(
        config or {},
        dataset,
        watch,
        seeds=[seed],
        device=device,
        engines=list(engines),
        controller=name,
        variant=variant,
        settings=dict(settings or {}),
        homes=community.homes,
        end=end,
        recipe=made_from,
        **({"decision_seconds": decisions} if decisions else {}),
        **about,
    )
    write_json_atomic(folder / "run.json", record)
    return rows


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    """How long the decisions of a run took, each a wall time in seconds."""
    p50, p95, most = np.percentile(seconds, [50, 95, 100])
    return {"p50": float(p50), "p95": float(p95), "max": float(most), "count": len(seconds)}


def recipe_of(
    name: str,
    seed: int,
    dataset: Dataset,
    engines: Sequence[str],
    settings: Mapping[str, Any] | None = None,
    *,
    code: Sequence[Path] = (),
    homes: int = 0,
    end: int | None = None,
) -> str:
    """Digest of all that the rows of a run come from; arguments as of `evaluate_controller`.

    Code counts where it decides a number: the community, the rules (one of them is the reference), the modules of
    a controller of the registry and of its bases, the files that its class names in ``code``, and what ``code`` adds.
    This module only carries numbers from there to files.

    Raises:
        OSError: a file of the code cannot be read.

    Source:
        `provenance.recipe`.
    """
    files = [*(paths.LIBRARY / "community").glob("*.py"), *_modules(CONTROLLERS[REFERENCE]), *code]
    if name in CONTROLLERS:
        files += [*_modules(CONTROLLERS[name]), *getattr(CONTROLLERS[name], "code", ())]
    inputs = {
        "controller": name,
        "seed": seed,
        "checksums": dict(dataset.checksums),
        "engines": list(engines),
        "settings": dict(settings or {}),
        "homes": homes,
        "end": end,
    }
    return recipe(inputs, files)


def _modules(constructor: Callable[..., Controller]) -> list[Path]:
    """Files of the library that a controller's class is written in, those of its bases included."""
    files = [Path(inspect.getfile(base)).resolve() for base in inspect.getmro(constructor)[:-1]]  # type: ignore[arg-type]
    return [file for file in files if file.is_relative_to(paths.LIBRARY)]


def recorded_recipe(folder: Path) -> str | None:
    """The recipe of the rows in a run's folder; None if it holds no whole run."""
    if not all((folder / file).is_file() for file in FILES):
        return None
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return None
    return record.get("recipe")


def roll(
    controller: Controller,
    dataset: Dataset,
    engine: str,
    *,
    homes: int = 0,
    end: int | None = None,
    progress: bool = True,
) -> tuple[Trajectory, Service, Community]:
    """Roll a controller from row 0 in one of the two engines.

    Args:
        controller: reset once, in float64.
        dataset: the edition.
        engine: "citylearn" or "model".
        homes: as many, the data set's own or replicated; 0 for the data set's.
        end: last row; None for the year.
        progress: whether CityLearn's progress is said on stderr.

    Returns:
        The trajectory, what was owed, and the community.

    Raises:
        EvaluationError: for another engine, if CityLearn is to roll homes that it does not have, or if the controller
            returns a NaN.

    Source:
        `original.rollout`, `simulate`.
    """
    if engine not in ENGINES:
        raise EvaluationError(f"unknown engine {engine}: choose from {', '.join(ENGINES)}.")
    if homes and engine != "model":
        raise EvaluationError(f"{engine} cannot roll {homes} homes: choose the engine model.")
    env = datasets.load(dataset, end=end)
    env.reset()
    service = Service.from_citylearn(env)
    if homes:
        reading, service = replicated(read_environment(env), service, homes)
        community = Community(reading, dtype=torch.float64)
    else:
        community = Community.from_citylearn(env, dtype=torch.float64)
    if engine == "model":
        return simulate(community, controller), service, community
    try:
        run, _ = original.rollout(env, controller, progress=progress)
    except ValueError as error:
        if "returned a NaN" in str(error):
            raise EvaluationError(str(error)) from None
        raise
    return run, service, community


def simulate(community: Community, controller: Controller, start: int = 0, hours: int | None = None) -> Trajectory:
    """Roll a controller through the fast model, one copy.

    Args:
        community: the model.
        controller: reset once.
        start: first row.
        hours: how many; None to the end of the data.

    Returns:
        The trajectory of N hours, as `original.rollout` gives it.

    Raises:
        ValueError: for rows outside the data.
        EvaluationError: if the controller returns a NaN.

    Source:
        `Community.step`.
    """
    state, observer = community.reset(1, start, hours), Observer(community)
    controller.reset(community)
    seen: dict[str, list[torch.Tensor]] = {}
    with torch.inference_mode():
        for row in range(start, int(state.end[0]) - 1):
            rows = community.read(state.row)
            actions = controller.act(observer(state, rows))
            if not torch.isfinite(actions).all():
                raise EvaluationError(f"the controller returned a NaN at row {row}: look at its inputs or its weights.")
            state, flows = community.step(state, actions, rows)
            hour = {
                **{field: getattr(flows, field) for field in _FLOWS},
                "load": rows.load,
                "pv": rows.pv,
                "price": community.price(rows).expand(-1, community.homes),
                "carbon": community.carbon(rows).expand(-1, community.homes),
            }
            for field, values in hour.items():
                seen.setdefault(field, []).append(values)
    arrays = {field: torch.cat(values).cpu().numpy() for field, values in seen.items()}
    return Trajectory(**arrays, start=start)


_FLOWS = ("net", "battery", "battery_soc", "chargers", "car_soc", "appliances", "started")


def controlled(run: Trajectory, community: Community) -> pd.DataFrame:
    """Table the controlled flows and SOCs of a run, none of the data set's own series.

    Args:
        run: N hours.
        community: for the names.

    Returns:
        Data frame (N lines) with columns row, battery/<home>, battery_soc/<home>, charger/<charger>,
        car_soc/<car>, appliance/<appliance>; kWh and SOC, rounded to thousandths (car_soc to millionths).

    Raises:
        Nothing.

    Source:
        `Trajectory`.
    """
    blocks = (
        ("battery", run.battery, community.home_names),
        ("battery_soc", run.battery_soc, community.home_names),
        ("charger", run.chargers, community.charger_names),
        ("car_soc", run.car_soc, community.car_names),
        ("appliance", run.appliances, community.appliance_names),
    )
    columns = {f"{kind}/{name}": values[:, i] for kind, values, names in blocks for i, name in enumerate(names)}
    rounded = {
        name: np.round(values.astype(np.float64), CAR_SOC_DECIMALS if name.startswith("car_soc/") else FLOWS_DECIMALS)
        + 0.0
        for name, values in columns.items()
    }
    return pd.DataFrame({"row": run.rows, **rounded})


def home_costs(run: Trajectory, names: Sequence[str], rows: np.ndarray | None = None) -> pd.DataFrame:
    """Each home's cost in EUR over ``rows`` (None: all): columns home, value. Exports earn nothing."""
    inside = slice(None) if rows is None else np.isin(run.rows, rows)
    cost = (run.price * np.clip(run.net, 0, None))[inside].sum(axis=0)
    return pd.DataFrame({"home": list(names), "value": cost})


def bills(run: Trajectory, names: Sequence[str]) -> pd.DataFrame:
    """`home_costs` of each split that has hours in the run, and of the year: columns split, home, value (EUR)."""
    inside = {split: np.concatenate([np.arange(*block) for block in blocks(split)]) for split in SPLITS}
    inside = {split: rows for split, rows in inside.items() if np.isin(run.rows, rows).any()} | {"year": run.rows}
    return pd.concat([home_costs(run, names, rows).assign(split=split) for split, rows in inside.items()])


class Finished(NamedTuple):
    """A run that is whole: whose it is, and where it lies."""

    edition: str
    controller: str
    variant: str
    seed: int
    folder: Path

    def record(self) -> dict[str, Any]:
        """What made it: its run.json."""
        return json.loads((self.folder / "run.json").read_text(encoding="utf-8"))


def runs(profile: str, edition: str = "*", controller: str = "*", variant: str = "*") -> list[Finished]:
    """List the finished runs of a profile.

    Args:
        profile: whose results.
        edition, controller, variant: of the runs; "*" for any.

    Returns:
        In order of edition, controller, variant and seed; empty if there are none.

    Raises:
        Nothing.

    Source:
        run.json, which is written last.
    """
    found = []
    for file in (paths.results(profile) / "runs").glob(f"{edition}/{controller}/{variant}/seed_*/run.json"):
        *_, ours, name, form, seed, _ = file.parts
        found.append(Finished(ours, name, form, int(seed.removeprefix("seed_")), file.parent))
    return sorted(found)


def collect(profile: str) -> pd.DataFrame:
    """Write the rows of every run of a profile, as `gather` gives them, to ``results/<profile>/kpis.csv``."""
    rows = gather(profile)
    write_csv_atomic(paths.results(profile) / "kpis.csv", rows)
    return rows


def gather(profile: str) -> pd.DataFrame:
    """The rows of every run of a profile.

    Args:
        profile: whose results.

    Returns:
        The rows, in an order that depends on nothing but themselves.

    Raises:
        EvaluationError: if there is no run yet, or a run's table has other columns.

    Source:
        docs/protocol.md.
    """
    found = [read_rows(run.folder / "kpis.csv") for run in runs(profile)]
    if not found:
        raise EvaluationError(f"results/{profile} holds no finished run: evaluate a controller first.")
    rows = pd.concat(found, ignore_index=True)
    order = {"split": [*SPLITS, "year"], "kpi": list(UNITS), "engine": list(ENGINES)}
    places = {name: rows[name].map({v: place for place, v in enumerate(values)}) for name, values in order.items()}
    key = rows[["edition", "controller", "variant", "seed"]].assign(**places)
    rows = rows.loc[key.sort_values(["edition", "controller", "variant", "seed", "engine", "split", "kpi"]).index]
    return rows.reset_index(drop=True)


def read_rows(file: Path) -> pd.DataFrame:
    """Read rows of the long table.

    Args:
        file: a kpis.csv, of one run or of a profile.

    Returns:
        Data frame with COLUMNS.

    Raises:
        EvaluationError: if the file is missing or has other columns.

    Source:
        COLUMNS.
    """
    if not file.is_file():
        raise EvaluationError(f"{file} is missing: run the evaluation again.")
    rows = pd.read_csv(file, dtype={"unit": str, "variant": str})
    if list(rows.columns) != COLUMNS:
        raise EvaluationError(f"{file} has other columns than {', '.join(COLUMNS)}: run the evaluation again.")
    return rows


def read_hourly(profile: str, edition: str, engine: str = "citylearn") -> pd.DataFrame:
    """Read the hourly district net of every run, for figures.

    Args:
        profile: whose results.
        edition: "official" or "offline".
        engine: "citylearn" or "model".

    Returns:
        Data frame with columns controller, variant, seed, row, net (kWh, signed).

    Raises:
        EvaluationError: if no run has it.

    Source:
        hourly.csv.gz.
    """
    found = []
    for run in runs(profile, edition):
        hourly = pd.read_csv(run.folder / "hourly.csv.gz")
        hourly = hourly[hourly.engine == engine]
        found.append(hourly.assign(controller=run.controller, variant=run.variant, seed=run.seed))
    if not any(len(hourly) for hourly in found):
        raise EvaluationError(f"no {engine} run of the {edition} edition in results/{profile}: evaluate one first.")
    return pd.concat(found, ignore_index=True)[["controller", "variant", "seed", "row", "net"]]


def read_weekly(profile: str, edition: str, controller: str, variant: str, seed: int, engine: str) -> pd.DataFrame:
    """Read a run's composite in each test week, over business as usual of the same week.

    Args:
        profile, edition, controller, variant, seed, engine: of the run.

    Returns:
        Data frame with columns week (0 to 11) and value; empty if the run was too short for a test week.

    Raises:
        EvaluationError: if that run, or business as usual, is not there, or they are of other homes.

    Source:
        weekly.csv; the weights of the composite.
    """
    tables, homes = [], []
    for name, which, number in ((controller, variant, seed), (REFERENCE, "default", 0)):
        file = paths.run(profile, edition, name, which, number) / "weekly.csv"
        if not file.is_file():
            raise EvaluationError(f"{file} is missing: run the evaluation again.")
        rows = pd.read_csv(file)
        tables.append(rows[rows.engine == engine])
        homes.append(json.loads((file.parent / "run.json").read_text(encoding="utf-8"))["homes"])
    if homes[0] != homes[1]:
        usual = f"{REFERENCE} {homes[1]}"
        raise EvaluationError(f"{controller}, {variant} has {homes[0]} homes and {usual}: compare the same homes.")
    both = tables[0].merge(tables[1], on=["week", "kpi"], suffixes=("", "_usual"))
    terms = both.kpi.map(WEIGHTS) * both.value / both.value_usual
    return terms.groupby(both.week).sum().rename("value").reset_index()


def read_bills(profile: str, edition: str, controller: str, variant: str, *, engine: str, split: str) -> pd.DataFrame:
    """Read what each home pays in a split, of the seeds whose runs left it.

    Args:
        profile, edition, controller, variant, engine, split: of the runs.

    Returns:
        A line a seed (index), a column a home, EUR; empty if no run left it.

    Raises:
        Nothing.

    Source:
        homes.csv.
    """
    found = {}
    for run in runs(profile, edition, controller, variant):
        file = run.folder / "homes.csv"
        rows = pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=BILLS)
        rows = rows[(rows["engine"] == engine) & (rows["split"] == split)]
        if len(rows):
            found[run.seed] = rows.set_index("home")["value"]
    return pd.DataFrame(found).T.rename_axis("seed")


def read_flows(profile: str, edition: str, controller: str, variant: str = "default") -> pd.DataFrame:
    """Read the controlled flows and SOCs of seed 0 of a controller, as `controlled` gives them.

    Args:
        profile, edition, controller, variant: of the run.

    Returns:
        Data frame as of `controlled`.

    Raises:
        EvaluationError: if that run is not there.

    Source:
        flows.csv.gz.
    """
    file = _flows_of(profile, edition, controller, variant)
    if not file.is_file():
        raise EvaluationError(f"{file} is missing: evaluate {controller} ({variant}) with seed 0 first.")
    return pd.read_csv(file)


def has_flows(profile: str, edition: str, controller: str, variant: str = "default") -> bool:
    """Whether `read_flows` would find that run's; arguments as there."""
    return _flows_of(profile, edition, controller, variant).is_file()


def _flows_of(profile: str, edition: str, controller: str, variant: str) -> Path:
    return paths.run(profile, edition, controller, variant, 0) / "flows.csv.gz"


def training_logs(profile: str, edition: str, pairs: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Read what learners noted at each validation of their training.

    Args:
        profile, edition: of the runs.
        pairs: controllers with their variants; who does not learn has left nothing.

    Returns:
        Data frame of all seeds, one line a validation, in the order of ``pairs``, with the columns that
        `learner.learn` gives it (update, seconds, actor_loss, composite, passes, controller, variant, seed and
        others); empty if none has left a log.

    Raises:
        Nothing.

    Source:
        training.csv of finished runs.
    """
    files = [run.folder / "training.csv" for pair in pairs for run in runs(profile, edition, *pair)]
    found = [pd.read_csv(file) for file in files if file.is_file()]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def gate(rows: pd.DataFrame) -> pd.DataFrame:
    """Say which controllers serve their people: 99 % of the feasible departures and every appliance cycle.

    Args:
        rows: of the long table.

    Returns:
        Data frame, one line per edition, controller, variant, engine and split: the least ev_departures_met and
        appliance_cycles_served over seeds, and passes (bool). A KPI without events does not count against it.

    Raises:
        EvaluationError: if the service KPIs are not among the rows.

    Source:
        docs/protocol.md, the gate.
    """
    wanted = rows[rows.kpi.isin(SERVICE)]
    if set(wanted.kpi) != set(SERVICE):
        raise EvaluationError(f"the rows lack {' or '.join(SERVICE)}: evaluate the controllers first.")
    key = ["edition", "controller", "variant", "engine", "split"]
    worst = wanted.groupby([*key, "kpi"], sort=False).value.min().unstack("kpi")[SERVICE]
    departures, cycles = (worst[name].fillna(1.0) for name in SERVICE)
    passes = (departures >= GATE) & (cycles >= 1.0)
    return worst.assign(passes=passes).rename_axis(columns=None).reset_index()


def variant_of(homes: int) -> str:
    """A rule's variant: ``default`` with the data set's homes (0), ``homes_<n>`` with n replicated ones."""
    return f"homes_{homes}" if homes else "default"


def settings_of(name: str, seed: int) -> dict[str, Any]:
    """The settings of a controller of the registry as the pipeline runs it: the constructor's keyword arguments.

    Raises:
        ConfigError: the numbers of the tuned rule cannot be read.
    """
    if name == "tuned_rule":
        return {"settings": read_settings()}
    return {"seed": seed} if name == "random" else {}


def references(
    profile: str, dataset: Dataset, engines: Sequence[str], homes: int, end: int | None
) -> dict[str, pd.DataFrame]:
    """Read what a run is measured against.

    Args:
        profile, dataset, engines, homes, end: as of `evaluate_controller`.

    Returns:
        Engine -> rows of business as usual.

    Raises:
        EvaluationError: they are not there, or of another window, data or code.

    Source:
        kpis.csv of business as usual.
    """
    folder = paths.run(profile, dataset.edition, REFERENCE, variant_of(homes), 0)
    same = "edition, homes, engines and end" if homes else "edition, engines and end"
    advice = f"evaluate {REFERENCE} first, with the same {same}."
    if not (folder / "run.json").is_file():
        of = f" with {homes} homes" if homes else ""
        raise EvaluationError(f"results/{profile} has no {REFERENCE}{of} of the {dataset.edition} edition: {advice}")
    rows = read_rows(folder / "kpis.csv")
    missing = sorted(set(engines) - set(rows.engine))
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    today = recipe_of(REFERENCE, 0, dataset, record["engines"], homes=homes, end=end)
    if missing or record.get("recipe") != today:
        what = f"engine {', '.join(missing)}" if missing else "window, data or code"
        raise EvaluationError(f"{REFERENCE} of results/{profile} has another {what}: {advice}")
    return {engine: rows[rows.engine == engine] for engine in engines}


def main(arguments: Sequence[str] | None = None) -> int:
    """Roll one of the registry's controllers through the profile's year and leave its rows.

    Exit status 0, or 1 after a one-line error on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m thesis_lib.analysis.evaluation", description=main.__doc__)
    parser.add_argument("controller", choices=sorted(CONTROLLERS))
    parser.add_argument("--profile", default="quick", help="configs/<profile>.yaml (default: quick)")
    parser.add_argument("--edition", choices=datasets.EDITIONS, help="default: the profile's")
    parser.add_argument("--seed", type=int, default=0, help="of the random controller (default: 0)")
    parser.add_argument("--homes", type=int, default=0, help="as many, replicated (default: 0, the data set's)")
    given = parser.parse_args(arguments)
    try:
        settings = settings_of(given.controller, given.seed)
        if given.homes < 0:
            raise EvaluationError(f"--homes {given.homes}: say how many, or 0 for the data set's own")
        if not 0 <= given.seed < 2**32 or (given.seed and "seed" not in settings):
            alone = f"{given.controller} draws nothing and has seed 0 alone"
            allowed = f"from 0 to {2**32 - 1}" if "seed" in settings else alone
            raise EvaluationError(f"--seed {given.seed}: {allowed}")
        config = load_config(given.profile)
        data = datasets.find(given.edition or config.edition)
        print(f"{given.controller}: {data.edition} edition, engines {', '.join(config.engines)}", file=sys.stderr)
        rows = evaluate_controller(
            given.controller,
            variant_of(given.homes),
            given.seed,
            partial(CONTROLLERS[given.controller], **settings),
            data,
            config.profile,
            config.engines,
            settings=settings,
            homes=given.homes,
            config=config,
        )
    except (ConfigError, DatasetError, EvaluationError, SolverError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{given.controller}: {len(rows)} rows", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
