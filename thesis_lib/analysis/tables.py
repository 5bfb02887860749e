"""The tables of the thesis: controllers by KPI with their spread over seeds, and one way to save them.

All start from the long table ``kpis.csv`` (edition, controller, variant, seed, split, kpi, value, unit,
engine). A table never mixes editions, splits or engines: ``select`` refuses to. CSV files keep plain numbers
(``x`` and, where seeds spread, ``x_half``, the half width of the 95 % t interval); only the .tex is words.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
import yaml
from IPython.display import Markdown, display

from thesis_lib import paths
from thesis_lib.analysis import evaluation, labels
from thesis_lib.analysis.learner import CONTROLLER
from thesis_lib.analysis.statistics import half_width
from thesis_lib.analysis.words import SETTINGS_ES
from thesis_lib.community.kpis import UNITS, WEIGHTS, Service, Trajectory
from thesis_lib.community.kpis import departures as departures_of
from thesis_lib.community.model import Community
from thesis_lib.controllers.tuned import settings_file
from thesis_lib.provenance import write_csv_atomic, write_text_atomic

KEY = ["controller", "variant"]
BAU = evaluation.REFERENCE
ORDER = [
    "charge_on_arrival",
    BAU,
    "rule",
    "tuned_rule",
    "habits",
    "citylearn_rbc_basic",
    "citylearn_rbc_smart",
    "citylearn_rbc_community",
    "citylearn_rbc_hours",
    "random",
    "independent_td3",
    "independent_sac",
    "marlisa",
    "maddpg",
    "cooperative_maddpg",
    "mpc_forecast",
    "mpc_perfect",
    "optimum",
]
VARIANTS = ["default", "announce", "broadcast", "none", "bound", "replay"]
FORESIGHT = ("mpc_perfect", "optimum")  # they know the future: bounds, no competitors
COMPOSITE = "composite_vs_bau"
TERMS = list(WEIGHTS)  # the five of the composite
SERVICE = evaluation.SERVICE
COSTING = {  # columns of what computing costs: the stages of a run that they are read from
    "training_minutes": ("training",),
    "year_minutes": ("evaluation_{}", "bound_year"),
}


def select(
    kpis: pd.DataFrame,
    *,
    split: str | None = None,
    engine: str | None = None,
    edition: str | None = None,
) -> pd.DataFrame:
    """The rows of one split, engine and edition; an argument left out must be unambiguous in the table.

    Raises:
        ValueError: nothing is left, or several editions, splits or engines would be mixed.
    """
    rows = kpis
    for column, wanted in (("split", split), ("engine", engine), ("edition", edition)):
        present = sorted(rows[column].unique())
        if wanted is None and len(present) > 1:
            raise ValueError(f"the table holds several values of {column} ({', '.join(present)}): choose one")
        if wanted is not None:
            rows = rows[rows[column] == wanted]
        if rows.empty:
            raise ValueError(f"no rows with {column} = {wanted}: present are {', '.join(present) or 'none'}")
    return rows


def keys(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """The (controller, variant) pairs of a frame in the order of the thesis."""
    rank = {name: place for place, name in enumerate(ORDER)}
    form = {name: place for place, name in enumerate(VARIANTS)}
    pairs = frame[KEY].drop_duplicates().itertuples(index=False, name=None)
    return sorted(pairs, key=lambda p: (rank.get(p[0], len(ORDER)), p[0], form.get(p[1], len(VARIANTS))))


def marked(pair: tuple[str, str], passes: bool = True) -> str:
    """A controller's printed name: † if it fails the service gate, ‡ if it knows the future."""
    return labels.controller(*pair) + ("" if passes else " †") + (" ‡" if pair[0] in FORESIGHT else "")


def foresight(pairs: Collection[tuple[str, str]]) -> str:
    """What ‡ means, for the caption of what shows these controllers; empty where none of them knows the future."""
    replayed = labels.t("caption.replayed") if ("optimum", "replay") in pairs else ""
    return labels.t("caption.foresight", replayed=replayed) if any(pair[0] in FORESIGHT for pair in pairs) else ""


def relative(rows: pd.DataFrame) -> pd.DataFrame:
    """Each KPI over that of business as usual on the same edition, split and engine.

    The composite is already relative and stays; service shares are no costs and are left out.

    Raises:
        ValueError: business as usual is missing, or there are rows of it for communities of several sizes.
    """
    where = ["edition", "split", "engine", "kpi"]
    usual = rows[rows["controller"] == BAU]
    if usual.empty:
        raise ValueError(f"no rows of {BAU}: run it first, every ratio is over its figures")
    if len(sizes := sorted(set(usual["variant"]))) > 1:
        raise ValueError(f"{BAU} of several sizes ({', '.join(sizes)}): a ratio is over the same homes, keep one size")
    base = usual.groupby(where)["value"].mean()
    counts = rows["kpi"].str.endswith("_count") | rows["kpi"].str.startswith(tuple(SERVICE))
    kept = rows[~counts].copy()
    over = base.reindex(pd.MultiIndex.from_frame(kept[where])).to_numpy()
    kept["value"] = np.where(kept["kpi"] == COMPOSITE, kept["value"], kept["value"] / over)
    kept["unit"] = "1"
    return kept


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Per controller, variant and KPI: seeds, mean, half (t interval; NaN for one seed), low and high."""
    groups = rows.groupby([*KEY, "kpi"], sort=False)["value"]
    return groups.agg(seeds="count", mean="mean", half=half_width, low="min", high="max").reset_index()


def gate(rows: pd.DataFrame) -> pd.DataFrame:
    """Who serves, per controller and variant: the worst seed's service shares, and ``passes``.

    Args:
        rows: of one edition, split and engine.

    Returns:
        Indexed by (controller, variant): ev_departures_met, appliance_cycles_served, passes (bool). A bound that
        states no service, because it was computed under it, passes.

    Raises:
        KeyError: another controller states no service.
    """
    verdict = evaluation.gate(rows).set_index(KEY)[[*SERVICE, "passes"]]
    for pair in keys(rows):
        if pair[0] in FORESIGHT and pair not in verdict.index:
            verdict.loc[pair, [*SERVICE, "passes"]] = [np.nan, np.nan, True]
    return verdict.astype({"passes": bool}).loc[keys(rows)]


def controllers(
    kpis: pd.DataFrame,
    *,
    split: str = "test",
    engine: str = "citylearn",
    edition: str | None = None,
    names: Sequence[str] = (COMPOSITE, *TERMS, SERVICE[0]),
    over_bau: bool = False,
) -> pd.DataFrame:
    """The main table: one row per controller and variant, one column per KPI (and ``_half`` over seeds).

    Rows that fail the service gate come last. With ``over_bau`` every KPI is a ratio and its column is
    called ``<kpi>_vs_bau``.

    Returns:
        Columns controller, variant, seeds, gate (bool), then the KPIs; units as in ``kpis.UNITS``.
    """
    rows = select(kpis, split=split, engine=engine, edition=edition)
    passes = gate(rows)["passes"]
    shown = summary(relative(rows) if over_bau else rows).set_index([*KEY, "kpi"])
    table = []
    for key in keys(rows):
        line: dict[str, object] = dict(zip(KEY, key, strict=True))
        own = (rows["controller"] == key[0]) & (rows["variant"] == key[1])
        line["seeds"] = int(rows.loc[own, "seed"].nunique())
        line["gate"] = bool(passes.loc[key])
        for name in names:
            if (*key, name) not in shown.index:
                continue
            column = name if not over_bau or name == COMPOSITE else f"{name}_vs_bau"
            line[column] = shown.loc[(*key, name), "mean"]
            line[f"{column}_half"] = shown.loc[(*key, name), "half"]
        table.append(line)
    frame = pd.DataFrame(table)
    empty = [c for c in frame.columns if str(c).endswith("_half") and not (frame[c] > 1e-12).any()]
    frame = frame.drop(columns=empty)
    return frame.sort_values("gate", ascending=False, kind="stable", ignore_index=True)


def costs(profile: str, edition: str, engine: str = "citylearn") -> pd.DataFrame:
    """What each controller costs to compute: from the records of its runs, means over its seeds.

    Returns:
        Columns controller, variant, training_minutes (CPU, of one seed, or of the tuned rule's search; NaN where
        nothing is trained), year_minutes (CPU, to roll the year in ``engine``, the engine's own work included, or to
        solve the bound's year; NaN if it was not rolled there),
        decision_us and decision_slow_us (median and 95th percentile of one decision for all homes, wall clock). The
        last two are of plans, which solve a problem each hour; of ours the median of the graph that is served, where
        notebook 05 has measured it. Who has none of these is left out.
    """
    file = paths.tables(profile) / "latency_forms.csv"
    forms = pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=["variant", "form", "p50_us"])
    served = forms[forms["form"] == "onnx"].set_index("variant")["p50_us"]
    lines = []
    for run in evaluation.runs(profile, edition):
        record = run.record()
        stages = record["stages"]
        line: dict[str, Any] = {"controller": record["controller"], "variant": record["variant"]}
        for column, names in COSTING.items():
            spent = [stages[name.format(engine)]["cpu_s"] / 60 for name in names if name.format(engine) in stages]
            line[column] = spent[0] if spent else np.nan
        if record["controller"] == "tuned_rule":
            made = yaml.safe_load(settings_file().read_text(encoding="utf-8"))["made"]
            line["training_minutes"] = made["spent"]["cpu_minutes"]
        if record["controller"].startswith("mpc_"):
            spread = record.get("decision_seconds", {}).get(engine, {})
            for column, part in (("decision_us", "p50"), ("decision_slow_us", "p95")):
                line[column] = 1e6 * spread.get(part, np.nan)
        elif record["controller"] == CONTROLLER:
            line["decision_us"] = served.get(record["variant"], np.nan)
        lines.append(line)
    columns = [*KEY, "training_minutes", "year_minutes", "decision_us", "decision_slow_us"]
    table = pd.DataFrame(lines, columns=columns).groupby(KEY, sort=False).mean().dropna(how="all")
    return table.loc[keys(table.reset_index())].reset_index()


def main(kpis: pd.DataFrame, spent: pd.DataFrame, *, split: str, engine: str, edition: str) -> pd.DataFrame:
    """The thesis' main table: `controllers` with both service shares and what each costs to compute.

    Args:
        kpis: the long table.
        spent: as `costs` gives it.
        split, engine, edition: of the rows.

    Returns:
        As `controllers`, and training_minutes and year_minutes of ``spent``. A bound stands in the same table: of any
        engine, since nobody acts.
    """
    rows = with_bound(kpis, split=split, engine=engine, edition=edition)
    names = (COMPOSITE, *TERMS, *SERVICE)
    table = controllers(rows, split=split, engine=engine, edition=edition, names=names)
    return table.merge(spent[[*KEY, *COSTING]], on=KEY, how="left")


def bounds(kpis: pd.DataFrame, *, engine: str, edition: str) -> pd.DataFrame:
    """How far above the optimum's bound they stay who know the future, and the two that come nearest without it.

    Args:
        kpis: the long table.
        engine, edition: of the rows.

    Returns:
        Columns controller, variant, then composite_<split> (mean over seeds) and above_<split> (that minus the bound's)
        for the year and for the test weeks, each with a bound of its own. Empty without a bound; NaN where a run was
        too short.
    """
    shown = (("optimum", "bound"), ("mpc_perfect", "default"), ("optimum", "replay"), ("mpc_forecast", "default"))
    columns = {}
    for split in ("year", "test"):
        if not ((kpis["split"] == split) & (kpis["edition"] == edition) & (kpis["engine"] == engine)).any():
            continue
        rows = with_bound(kpis, split=split, engine=engine, edition=edition)
        columns[split] = rows[rows["kpi"] == COMPOSITE].groupby(KEY)["value"].mean()
    values = pd.DataFrame(columns).reindex([*shown, (CONTROLLER, "announce")]).dropna(how="all")
    if shown[0] not in values.index:
        return pd.DataFrame()
    table: dict[str, pd.Series] = {}
    for split, own in values.items():
        table |= {f"composite_{split}": own, f"above_{split}": own - own[shown[0]]}
    return pd.DataFrame(table, index=values.index).rename_axis(KEY).reset_index()


def with_bound(kpis: pd.DataFrame, *, split: str, engine: str, edition: str) -> pd.DataFrame:
    """Rows of one split, engine and edition, and those of a bound that was computed in another engine only."""
    rows = select(kpis, split=split, engine=engine, edition=edition)
    there = set(map(tuple, rows[KEY].drop_duplicates().to_numpy()))
    elsewhere = kpis[(kpis["split"] == split) & (kpis["edition"] == edition) & (kpis["controller"] == "optimum")]
    bound = elsewhere[(elsewhere["variant"] == "bound") & (("optimum", "bound") not in there)]
    first = bound[bound["engine"] == bound["engine"].iloc[0]] if len(bound) else bound
    return pd.concat([rows, first.assign(engine=engine)], ignore_index=True)


def engines(
    kpis: pd.DataFrame,
    *,
    split: str = "test",
    edition: str | None = None,
    names: Sequence[str] = (COMPOSITE, *TERMS, *SERVICE),
) -> pd.DataFrame:
    """The fast model beside CityLearn: controller, variant, kpi, citylearn, model, distance.

    Values are means over the seeds that both engines have; distance is |model − citylearn| / |citylearn| of the seed in
    which it is largest.
    """
    rows = select(kpis[kpis["split"] == split], edition=edition, split=split, engine="citylearn")
    others = select(kpis[kpis["split"] == split], edition=edition, split=split, engine="model")
    on = [*KEY, "seed", "kpi"]
    both = rows.merge(others, on=on, suffixes=("_citylearn", "_model"))
    both = both[both["kpi"].isin(list(names))]
    apart = (both["value_model"] - both["value_citylearn"]).abs()
    both["distance"] = np.where(apart == 0, 0.0, apart / both["value_citylearn"].abs())
    of = {"citylearn": ("value_citylearn", "mean"), "model": ("value_model", "mean"), "distance": ("distance", "max")}
    table = both.groupby([*KEY, "kpi"], sort=False).agg(**of).reset_index()
    rank = {pair: place for place, pair in enumerate(keys(table))}
    place = table[KEY].apply(lambda row: rank[tuple(row)], axis=1)
    kind = table["kpi"].map({name: i for i, name in enumerate(names)})
    return table.assign(_a=place, _b=kind).sort_values(["_a", "_b"]).drop(columns=["_a", "_b"]).reset_index(drop=True)


DECIMALS = {  # with three, Spanish would read 7,987 kW as thousands
    "peak_kw": 1,
    "appliance_mwh": 1,
    "training_minutes": 1,
    "year_minutes": 1,
    "seconds_per_update": 2,
    "memory": 2,
}
PAGE_ROWS = 40  # more than these run over several pages
HEADING_LETTERS = 14  # of a line of a heading in LaTeX
_FIT = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}"  # needs graphicx


def _stacked(heading_text: str, side: str) -> str:
    """A heading in lines of a few letters, its unit in brackets on a line of its own; ``side``: l or r."""
    name, bracket, unit = heading_text.partition(" (")
    lines = [*textwrap.wrap(name, HEADING_LETTERS, break_long_words=False), *([f"({unit}"] if bracket else [])]
    whole = r"\\".join(lines)
    return rf"\shortstack[{side}]{{{whole}}}" if len(lines) > 1 else name


def heading(column: str) -> str:
    """A column's printed heading: a KPI with its unit, a ratio to BAU, or a ``table.`` label.

    Raises:
        ValueError: there is no such label.
    """
    if f"kpi.{column}" in labels.TEXT:
        unit = UNITS.get(column, "1")
        return labels.kpi(column) if unit == "1" else f"{labels.kpi(column)} ({labels.unit(unit)})"
    base = column.removesuffix("_vs_bau")
    if base != column and f"kpi.{base}" in labels.TEXT:
        return f"{labels.kpi(base)} / BAU"
    controller, slash, variant = column.partition("/")
    if slash and f"controller.{controller}" in labels.TEXT:
        return f"{labels.controller(controller, variant)} (%)"  # a change, home by home
    return labels.t(f"table.{column}")


def _digits(values: pd.Series) -> int:
    if values.name in DECIMALS:
        return DECIMALS[values.name]
    numbers = values.dropna().abs()
    if numbers.empty or pd.api.types.is_integer_dtype(values):
        return 0
    for digits in (0, 1, 2) if 2 <= numbers.max() < 10 else (0,) if numbers.max() >= 10 else ():
        if np.allclose(numbers, numbers.round(digits), rtol=0, atol=1e-9):
            return digits  # a size as it is given, such as 6.4 kWh or 13 h; ratios keep three
    return 0 if numbers.max() >= 1000 else 1 if numbers.max() >= 10 else 3


def printed(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame as the reader sees it: headings, names and numbers in the language in use, all text.

    ``controller`` and ``variant`` become one column, with ‡ for who knows the future where there is a ``gate``, which
    is yes or NO; ``x`` and ``x_half``, or ``x_low`` and ``x_high``, one cell.

    Raises:
        ValueError: two columns have one heading.
    """
    shown: dict[str, list[str]] = {}
    for column in frame.columns:
        values = frame[column]
        if column == "variant" and "controller" in frame or str(column).endswith(("_half", "_low", "_high")):
            continue
        if column == "controller":
            variants = frame["variant"] if "variant" in frame else [None] * len(frame)
            pairs = zip(values, variants, strict=True)
            cells = [marked(pair) if "gate" in frame else labels.controller(*pair) for pair in pairs]
        elif column == "variant":
            cells = [labels.variant(name) for name in values]
        elif column == "base":
            cells = [labels.controller(name) for name in values]
        elif column == "home":
            cells = [str(name).removeprefix("Building_") for name in values]
        elif column in ("charger_kw", "car_kwh", "target", "earlier"):  # texts that hold figures
            cells = [labels.decimals(str(value)) for value in values]
        elif column == "unit":
            cells = [labels.unit(name) for name in values]
        elif column in ("kpi", "split", "group", "figure"):
            cells = [labels.t(f"{column}.{name}") for name in values]
        elif column == "privilege":
            cells = [labels.t(f"gap.{name}") for name in values]
        elif column == "meaning" and labels.language() == "es":
            names = frame["parameter"].str.partition(".")[0]
            cells = [SETTINGS_ES.get(name, text) for name, text in zip(names, values, strict=True)]
        elif column == "gate":
            cells = [labels.t("gate.pass" if passes else "gate.fail") for passes in values]
            if SERVICE[0] in frame:  # a bound is no trajectory: it serves nobody, well or badly
                cells = ["–" if none else cell for none, cell in zip(frame[SERVICE[0]].isna(), cells, strict=True)]
        elif column == "distance":
            cells = [labels.scientific(value) for value in values]
        elif column in ("p50_ms", "p99_ms"):
            cells = [labels.number(value, 2) for value in values]
        elif column in ("p_holm", "p_weeks"):
            cells = [labels.p_value(value) for value in values]
        elif pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            halves = frame[f"{column}_half"] if f"{column}_half" in frame else [None] * len(frame)
            whole = pd.api.types.is_integer_dtype(values)
            mixed = frame.select_dtypes("float").drop(columns=["distance", "ratio"], errors="ignore")
            own = {"kpi", "figure"} & set(frame) and not whole and column in mixed  # each row has its own decimals
            digits = [_digits(mixed.loc[at] if own else values) for at in frame.index]
            if own and "figure" in frame:  # hours, kWh and per cent, no ratios
                digits = [min(found, 2) for found in digits]
            cells = [labels.interval(*cell) for cell in zip(values, halves, digits, strict=True)]
            if f"{column}_low" in frame:
                ends = zip(cells, frame[f"{column}_low"], frame[f"{column}_high"], digits, strict=True)
                cells = [labels.bounds(*cell) for cell in ends]
        else:
            cells = [_cell(value) for value in values]
        if heading(str(column)) in shown:
            raise ValueError(f"two columns are headed {heading(str(column))!r}: give {column} a label of its own")
        shown[heading(str(column))] = cells
    return pd.DataFrame(shown)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return labels.t("word.yes" if value else "word.no")
    if isinstance(value, Real):
        number = float(value)
        return labels.number(number, 0 if number.is_integer() else None)
    return "–" if value is None else str(value)


Words: TypeAlias = Callable[[], str]  # gives a text in the language in use


def save(frame: pd.DataFrame, name: str, profile: str, caption: Words) -> Path:
    """Write ``results/<profile>/tables/<name>.csv`` as it is and ``<language>/<name>.tex`` as ``printed`` shows it.

    The index is not written: put what must be read into a column. In the .tex a rule separates the rows
    that fail the service gate (column ``gate``), wide tables shrink to the text width, and long ones run over several
    pages; it is called ``tab:<name>``. Every file is written whole or not at all.

    Args:
        frame: the table.
        name: file name without suffix.
        profile: whose folder.
        caption: gives it in each language.

    Returns:
        The path of the CSV.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = paths.tables(profile)
    for language in labels.LANGUAGES:
        with labels.using(language):
            write_text_atomic(folder / language / f"{name}.tex", _tex(frame, caption(), f"tab:{name}"))
    return write_csv_atomic(folder / f"{name}.csv", frame)


def _words(frame: pd.DataFrame) -> list[str]:
    """Printed headings of the columns that hold words, which are set flush left."""
    return [heading(str(c)) for c in frame.columns if c == "gate" or not pd.api.types.is_numeric_dtype(frame[c])]


def _tex(frame: pd.DataFrame, caption: str, label: str) -> str:
    """The table for LaTeX, in the language in use."""
    shown = printed(frame).map(labels.latex)
    words = _words(frame)
    wordy = [c for c in shown.columns if c in words and shown[c].str.len().max() > 60]  # their lines are broken
    share = f">{{\\raggedright\\arraybackslash}}p{{{0.58 / max(len(wordy), 1):.2f}\\textwidth}}"
    form = ["r" if column not in words else share if column in wordy else "l" for column in shown.columns]
    sides = ["r" if kind == "r" else "l" for kind in form]
    headings = [_stacked(labels.latex(name), side) for name, side in zip(shown.columns, sides, strict=True)]
    shown.columns = pd.Index(headings)
    long = len(frame) > PAGE_ROWS
    tex = shown.style.hide(axis="index").to_latex(
        hrules=True,
        caption=labels.latex(caption),
        label=label,
        position=None if long else "htbp",
        position_float=None if long else "centering",
        column_format="".join(form),
        environment="longtable" if long else None,
    )
    tex = tex.replace("Continued on next page", labels.latex(labels.t("claims.continued")))
    # No wider than the text, whatever the words' length.
    tex = tex.replace(r"\begin{tabular}", _FIT + "{!}{%\n" + r"\begin{tabular}", 1)
    tex = tex.replace(r"\end{tabular}", r"\end{tabular}}", 1)
    if "gate" in frame and 0 < frame["gate"].sum() < len(frame):
        lines = tex.splitlines()
        body = lines.index(r"\midrule") + 1
        first = body + int(np.flatnonzero(~frame["gate"].to_numpy(dtype=bool))[0])
        tex = "\n".join([*lines[:first], r"\midrule", *lines[first:]]) + "\n"
    return tex


def publish(frame: pd.DataFrame, name: str, profile: str | None, caption: Words) -> None:
    """Save a table (unless ``profile`` is None) and show it in a notebook, with its caption, as it is printed."""
    if profile is not None:
        save(frame, name, profile, caption)
    shown, flush = printed(frame), _words(frame)
    left = [{"selector": f".col{at}", "props": "text-align: left"} for at, c in enumerate(shown.columns) if c in flush]
    display(shown.style.hide(axis="index").set_table_styles(left))
    display(Markdown(f"*{caption()}*"))


def caption(kind: str, *, split: str, engine: str = "citylearn", edition: str = "official", **values: object) -> str:
    """The caption of a table: ``caption.<kind>``, with the words for these and further ``values``.

    Raises:
        ValueError: no such caption.
    """
    return labels.t(
        f"caption.{kind}",
        split=labels.t(f"weeks.{split}"),
        engine=labels.t(f"engine.{engine}"),
        edition=labels.t(f"edition.{edition}"),
        gate=labels.number(evaluation.GATE, 2),
        composite=composite(),
        **values,
    )


def composite() -> str:
    """What the composite is made of, in the language in use: ``0.25 cost + ... + 0.15 import``."""
    return " + ".join(f"{labels.number(share, 2)} {labels.kpi(term).lower()}" for term, share in WEIGHTS.items())


# ------------------------------------------------- from stored flows to the frames that figures take


def replay(flows: pd.DataFrame, community: Community) -> Trajectory:
    """The whole run again: the controlled flows a run stored, with the data set's own series.

    Args:
        flows: as ``evaluation.controlled`` gives them, N rows (kWh, rounded to Wh, and SOCs).
        community: the community of the run's edition.

    Returns:
        The trajectory of N hours; ``started`` is not stored and is -1 throughout.

    Raises:
        KeyError: the flows are of another community.

    Source:
        ``Building.net_electricity_consumption``: load - PV + battery + chargers + appliances.
    """
    hours = len(flows)
    rows = community.read(torch.arange(int(flows["row"].iloc[0]), int(flows["row"].iloc[-1]) + 1))

    def stored(kind: str, names: list[str]) -> np.ndarray:
        return flows[[f"{kind}/{name}" for name in names]].to_numpy(dtype=float).reshape(hours, len(names))

    def per_home(values: torch.Tensor) -> np.ndarray:
        return np.broadcast_to(_array(values), (hours, community.homes))

    battery, chargers = stored("battery", community.home_names), stored("charger", community.charger_names)
    appliances = stored("appliance", community.appliance_names)
    net = per_home(rows.load) - per_home(rows.pv) + battery
    for owners, energy in ((community.charger_home, chargers), (community.appliance_home, appliances)):
        for place, home in enumerate(_array(owners).astype(int)):
            net[:, home] += energy[:, place]
    return Trajectory(
        net=net,
        load=per_home(rows.load),
        pv=per_home(rows.pv),
        price=per_home(community.price(rows)),
        carbon=per_home(community.carbon(rows)),
        battery=battery,
        battery_soc=stored("battery_soc", community.home_names),
        chargers=chargers,
        car_soc=stored("car_soc", community.car_names),
        appliances=appliances,
        started=np.full(appliances.shape, -1),
        start=int(flows["row"].iloc[0]),
    )


def _array(tensor: Any) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()


def context(community: Community) -> pd.DataFrame:
    """What no controller changes, by row: load, pv (kWh, district), price (EUR/kWh), carbon (kg/kWh)."""
    rows = community.read(torch.arange(community.rows))
    columns = {
        "load": rows.load.sum(-1),
        "pv": rows.pv.sum(-1),
        "price": community.price(rows).mean(-1),
        "carbon": community.carbon(rows).mean(-1),
    }
    return pd.DataFrame({name: _array(values) for name, values in columns.items()}).rename_axis("row")


def departures(run: Trajectory, service: Service, controller: str, variant: str = "default") -> pd.DataFrame:
    """Departures of a run as ``figures.departure_margins`` takes them (seed 0)."""
    return departures_of(run, service).assign(controller=controller, variant=variant, seed=0)


def home_costs(
    run: Trajectory,
    names: Sequence[str],
    controller: str,
    variant: str = "default",
    rows: np.ndarray | None = None,
) -> pd.DataFrame:
    """Each home's cost in EUR over ``rows`` (None: all): home, value, controller, variant, seed (0)."""
    return evaluation.home_costs(run, names, rows).assign(controller=controller, variant=variant, seed=0)


def district(run: Trajectory, service: Service) -> pd.DataFrame:
    """The district hour by hour as ``figures.policy_day`` takes it, energies in kWh.

    battery and chargers are net of what others give back; battery_charged and cars_charged what each takes, summed.
    battery_soc and car_soc are means, the latter of the connected cars.
    """
    connected = np.zeros(run.car_soc.shape, dtype=bool)
    sessions = service.sessions[["arrival", "departure", "car"]].to_numpy(dtype=int)
    for first, last, car in sessions - (run.start, run.start, 0):
        connected[max(first, 0) : max(last + 1, 0), car] = True
    plugged = connected.sum(axis=1)
    car_soc = np.where(connected, run.car_soc, 0).sum(axis=1) / np.where(plugged, plugged, np.nan)
    return pd.DataFrame(
        {
            "load": run.load.sum(axis=1),
            "pv": run.pv.sum(axis=1),
            "battery": run.battery.sum(axis=1),
            "chargers": run.chargers.sum(axis=1),
            "battery_charged": run.battery.clip(0).sum(axis=1),
            "cars_charged": run.chargers.clip(0).sum(axis=1),
            "appliances": run.appliances.sum(axis=1),
            "net": run.district,
            "battery_soc": run.battery_soc.mean(axis=1),
            "car_soc": car_soc,
            "price": run.price.mean(axis=1),
            "carbon": run.carbon.mean(axis=1),
        },
        index=pd.Index(run.rows, name="row"),
    )


def car_energy(flows: pd.DataFrame) -> float:
    """What the chargers drew less what the cars gave back, kWh; ``flows`` as of `evaluation.read_flows`."""
    return float(flows.filter(regex="^charger/").to_numpy().sum())


def homes(community: Community) -> pd.DataFrame:
    """The homes of a community: battery (kWh), chargers, appliances, numbers of observations and actions."""
    chargers = np.bincount(_array(community.charger_home).astype(int), minlength=community.homes)
    appliances = np.bincount(_array(community.appliance_home).astype(int), minlength=community.homes)
    return pd.DataFrame(
        {
            "home": community.home_names,
            "battery": _array(community.storage_capacity)[: community.homes].round(3),
            "chargers": chargers,
            "appliances": appliances,
            "observations": [len(names) for names in community.observation_names],
            "actions": [len(names) for names in community.action_names],
        }
    )


def settings(profile: str, values: Mapping[str, object]) -> pd.DataFrame:
    """Settings with the comments that ``configs/<profile>.yaml`` has beside them.

    Args:
        profile: name of the profile.
        values: the settings in force, by their keys.

    Returns:
        Columns parameter (each entry of a mapping apart, such as weights.cost), value, meaning (English, as in
        the file: the comment behind the key where it comes first, or else the one above it; empty without).

    Raises:
        FileNotFoundError: no such profile.
    """
    comments: dict[str, str] = {}
    above = ""
    for line in (paths.configs() / f"{profile}.yaml").read_text(encoding="utf-8").splitlines():
        code, _, comment = (part.strip() for part in line.partition("#"))
        if code and (comment or above):
            comments.setdefault(code.partition(":")[0], comment or above)
        above = f"{above} {comment}".strip() if comment and not code else ""
    lines = [
        (name + (f".{part}" if part else ""), one, comments.get(name, ""))
        for name, value in values.items()
        for part, one in (value.items() if isinstance(value, dict) else [("", value)])
    ]
    return pd.DataFrame(lines, columns=["parameter", "value", "meaning"])
