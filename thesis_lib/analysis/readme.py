"""The figures in the READMEs, docs/algorithm.md and docs/protocol.md, written between markers from what runs have left.

    python -m thesis_lib.analysis.readme           write them
    python -m thesis_lib.analysis.readme --check   say whether they hold what the rows say

Two parts of the READMEs: ``results``, from ``results/thesis/kpis.csv``, whose first paragraph says who is ahead,
whoever that is; and ``speed``, from ``results/speed/`` and ``results/thesis/latency.json``. Three of
docs/algorithm.md: ``ablations``, from the runs in ``results/ablations/``; ``gap``, from its ``gap.csv`` and the
thesis' rows; and ``profile``, from ``results/speed/where.json``. One of docs/protocol.md: ``tuning``, from the trials
in ``docs/tuning*.csv`` and ``results/tuning/``. No number is typed, and a test fails when a part and its files differ.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_lib import paths
from thesis_lib.analysis import ablations, comparison, evaluation, gap, gap_figures, labels, tables
from thesis_lib.analysis.evaluation import EvaluationError
from thesis_lib.analysis.learner import CONTROLLER
from thesis_lib.config import ConfigError, load_config
from thesis_lib.controllers import LEARNERS
from thesis_lib.provenance import write_text_atomic

FILES = {"en": "README.md", "es": "README.es.md"}
WHERE = {"split": "test", "engine": "citylearn", "edition": "official"}
PROTOCOL = "docs/protocol.md"
# Trials by hand: their files, and of each learner the file and how its trials' names begin; () is whatever is left.
HAND_TUNED = ["tuning.csv", "tuning_independent.csv", "tuning_marlisa.csv"]
PLAIN = ("z",)  # of tuning.csv, those of MADDPG from replay
TUNED: dict[str, tuple[str, tuple[str, ...]]] = {
    "cooperative_maddpg": ("tuning.csv", ()),
    "maddpg": ("tuning.csv", PLAIN),
    "independent_td3": ("tuning_independent.csv", ("check", "i1", "t")),
    "independent_sac": ("tuning_independent.csv", ("s1", "u")),
    "marlisa": ("tuning_marlisa.csv", ()),
}
ALGORITHM, ABLATED = "docs/algorithm.md", WHERE | {"engine": "model"}  # ablations are rolled in the fast model
COLUMNS = (tables.COMPOSITE, *tables.TERMS)
FIGURE = "kpi_bars"
DIVERGED = 0.05  # of business as usual's composite: a last validation so far above the best is told
# Rows of results/speed/model.json that are shown, those of 1,024 copies.
STEPS = ("forward", "forward, compiled", "forward with observations", "forward and backward, compiled")


class ReadmeError(ValueError):
    """A README without its markers; its text is one line that says what to do."""


def block(kpis: pd.DataFrame | None, profile: str, seeds: int) -> str:
    """The part ``results``, in the language in use.

    Args:
        kpis: the long table; None if the thesis' run has not written it yet.
        profile: whose figure is shown, where it has been drawn.
        seeds: that the headline should have.

    Returns:
        Markdown: who is ahead, the figure, the table. Without rows of ours or of business as usual, one sentence.
    """
    rows = pd.DataFrame(columns=evaluation.COLUMNS) if kpis is None else kpis
    wanted = [rows[column] == value for column, value in WHERE.items()]
    rows = rows[wanted[0] & wanted[1] & wanted[2]]
    if kpis is None or comparison.ours(rows) is None or tables.BAU not in set(rows["controller"]):
        return labels.t("readme.nothing", command=f"make {profile}")
    bounded = tables.with_bound(kpis, **WHERE)
    diverging = _diverging(profile, rows)
    notes = labels.t("readme.notes", gate=_gate(), composite=tables.composite(), tolerance=_tolerance(profile))
    parts = [_headline(rows, profile, seeds), _picture(profile), _table(bounded), f"{notes} {diverging}".strip()]
    return "\n\n".join(part for part in parts if part)


def _headline(rows: pd.DataFrame, profile: str, seeds: int) -> str:
    """Who is ahead among those that serve and do not know the future, and by how much; below, our own figures."""
    own = comparison.ours(rows)
    assert own is not None  # `block` has asked
    passes = tables.gate(rows)["passes"]
    values = {pair: comparison.by_seed(rows, pair) for pair in tables.keys(rows)}
    able = [pair for pair in values if passes[pair] and pair[0] not in tables.FORESIGHT]
    ahead = sorted(
        (pair for pair in able if pair != own and values[pair].mean() < values[own].mean()),
        key=lambda pair: values[pair].mean(),
    )
    numbers = {
        "ours": labels.controller(*own),
        "value": _value(values[own]),
        "there": len(values[own]),
        "seeds": seeds,
        "rest": labels.percent(1 - values[own].mean(), 1),
    }
    texts = [labels.t("readme.intro")]
    if not passes[own]:
        texts.append(labels.t("readme.fails", gate=_gate(), **numbers))
    elif ahead:
        names = [f"{labels.controller(*pair)} ({_value(values[pair])})" for pair in ahead]
        texts.append(labels.t("readme.behind", names=labels.listing(names), **numbers))
    else:
        others = [pair for pair in able if pair[0] != own[0]]
        second = min(others, key=lambda pair: values[pair].mean())
        difference = comparison.against(values[own], values[second], second[0] in comparison.LEARNERS)
        told = labels.difference(difference.mean(), tables.half_width(difference)) if len(difference) else "–"
        name = f"{labels.controller(*second)} ({_value(values[second])})"
        texts.append(labels.t("readme.ahead", second=name, difference=told, **numbers))

    def shares(base: comparison.Pair) -> str:
        changes = [
            (term, comparison.by_seed(rows, own, term).mean() / comparison.by_seed(rows, base, term).mean() - 1)
            for term in tables.TERMS
        ]
        return "; ".join(f"{labels.kpi(term).lower()} {labels.percent(by, 1, sign=True)}" for term, by in changes)

    met = comparison.by_seed(rows, own, "ev_departures_met").min()
    texts.append(labels.t("readme.terms", terms=shares((tables.BAU, "default")), met=labels.percent(met, 1)))
    if losers := _losers(profile, own):
        texts.append(labels.t("readme.losers", more=losers[0], homes=losers[1]))
    cars = [_car_energy(profile, pair) for pair in (own, (tables.BAU, "default"))]
    if comparison.HABITS in values and None not in cars:
        numbers |= {"own": cars[0], "usual": cars[1], "tolerance": _tolerance(profile)}
        texts.append(labels.t("readme.beyond", terms=shares(comparison.HABITS), **numbers))
    if plain := _plain(values):
        texts.append(plain)
    if len(values[own]) < seeds or own != comparison.OURS:
        texts.append(labels.t("readme.so_far", headline=labels.controller(*comparison.OURS), **numbers))
    absent = comparison.missing(rows)
    if absent:
        texts.append(labels.t("readme.absent", names=labels.listing([labels.controller(name) for name in absent])))
    return f"{' '.join(texts[:2])}\n\n{' '.join(texts[2:])}"


def _plain(values: dict[comparison.Pair, pd.Series]) -> str:
    """What learning comes to without the model, beside the tuned rule; apart against central. Empty without them."""
    names = ("tuned_rule", "maddpg", "independent_td3", "independent_sac")
    rule, central, *alone = ((name, "default") for name in names)
    alone = sorted((pair for pair in alone if pair in values), key=lambda pair: values[pair].mean())
    if not alone or rule not in values or central not in values:
        return ""
    best = min((pair for pair in values if pair[0] in LEARNERS), key=lambda pair: values[pair].mean())
    difference = comparison.against(values[alone[0]], values[central], other_learns=True)
    return labels.t(
        "readme.plain",
        best=f"{labels.controller(*best)} ({_value(values[best])})",
        rule=_value(values[rule]),
        alone=labels.controller(*alone[0]),
        central=labels.controller(*central),
        difference=labels.difference(difference.mean(), tables.half_width(difference)),
    )


def _diverging(profile: str, rows: pd.DataFrame) -> str:
    """Who ends its training far above its best validation (`DIVERGED`), means over seeds; empty if nobody does."""
    logs = evaluation.training_logs(profile, WHERE["edition"], tables.keys(rows))
    texts = []
    for pair in tables.keys(logs) if len(logs) else []:
        seeds = comparison.rows_of(logs, pair).dropna(subset=["composite"]).sort_values("update").groupby("seed")
        best, last = seeds["composite"].min().mean(), seeds["composite"].last().mean()
        if last - best > DIVERGED:
            told = {"best": labels.number(best, 3), "last": labels.number(last, 3)}
            texts.append(labels.t("readme.diverges", name=labels.controller(*pair), **told))
    return " ".join(texts)


def _car_energy(profile: str, pair: comparison.Pair) -> str | None:
    """What cars took less what they gave back, MWh in the year of seed 0; None without its flows."""
    if not evaluation.has_flows(profile, WHERE["edition"], *pair):
        return None
    flows = evaluation.read_flows(profile, WHERE["edition"], *pair)
    return labels.number(tables.car_energy(flows) / 1000, 1)


def _losers(profile: str, pair: comparison.Pair) -> tuple[int, int] | None:
    """How many homes pay more than under business as usual with seed 0, and of how many; None before it is drawn."""
    file = paths.figures(profile) / "home_heatmap.csv"
    changes = comparison.rows_of(pd.read_csv(file), pair) if file.is_file() else pd.DataFrame()
    homes = changes.drop(columns=tables.KEY, errors="ignore")
    return (int((homes.iloc[0] > 0).sum()), homes.shape[1]) if len(homes) else None


def _picture(profile: str) -> str:
    """The headline figure with its caption as the alternative text, where it has been drawn in this language."""
    file = paths.figures(profile) / labels.language() / f"{FIGURE}.png"
    if not file.is_file():
        return ""
    words = file.with_suffix(".txt").read_text(encoding="utf-8").strip()
    return f"![{words}]({file.relative_to(paths.ROOT).as_posix()})"


def _table(rows: pd.DataFrame) -> str:
    """The main table over business as usual; those that fail the gate last, bounds marked."""
    passes, over = tables.gate(rows)["passes"], tables.relative(rows)
    pairs = sorted(tables.keys(rows), key=lambda pair: not passes[pair])
    head = [labels.t("table.controller"), labels.t("table.seeds"), *(labels.kpi(name) for name in COLUMNS)]
    lines = [[*head, labels.t("kpi.ev_departures_met")], ["---", *["---:"] * (len(head))]]
    for pair in pairs:
        name = tables.marked(pair, passes[pair])
        cells = [_value(comparison.by_seed(over, pair, kpi)) for kpi in COLUMNS]
        met = comparison.by_seed(rows, pair, "ev_departures_met")
        seeds = len(comparison.by_seed(over, pair))
        lines.append([name, str(seeds), *cells, labels.number(met.min(), 3) if len(met) else "–"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _value(values: pd.Series) -> str:
    return labels.interval(values.mean(), tables.half_width(values), 3) if len(values) else "–"


def _tolerance(profile: str) -> str:
    """SOC below the required one that the learners' guard accepts."""
    return labels.number(load_config(profile).train["guard_tolerance"], 2)


def _gate() -> str:
    return labels.number(evaluation.GATE, 2)


def speed(profile: str) -> str:
    """The part ``speed``, in the language in use: each figure beside that of its peer, measured in the same run.

    Args:
        profile: whose latencies are told.

    Returns:
        Markdown: a table, where it was measured and what the service does. What has not been measured is left out;
        without anything, one sentence.
    """
    lines, about = [], []
    if model := _record(paths.results("speed") / "model.json"):
        rows = {row["what"]: row for row in model["rows"] if row["copies"] == 1024}
        peer = _rate(model["figures"]["citylearn_steps_per_s"])
        lines += [
            (labels.t(f"speed.{what}"), _rate(rows[what]["steps/s"]), f"CityLearn: {peer}", rows[what]["ratio"])
            for what in STEPS
            if what in rows
        ]
        about.append(_measured_on("make benchmark", model))
    if training := _record(paths.results("speed") / "training.json"):
        found = training["figures"]
        peer = f"{labels.t('speed.pairs')}: {_rate(found['usual_steps_per_s'])}"
        name = labels.t("speed.training", variant=labels.variant(training["config"]["variant"]))
        lines.append((name, _rate(found["steps_per_s"]), peer, found["ratio"]))
        about.append(_learned(training))
    if gpu := _record(paths.results("speed") / "training_cuda.json"):
        usual, _, large = gpu["rows"]
        told = {"gpu": _gpu_name(gpu), "copies": labels.number(large["copies"], 0)}
        told["variant"] = labels.variant(gpu["config"]["variant"])
        peer = f"{labels.t('speed.pairs')}: {_rate(usual['steps/s'])}"
        ratio = large["steps/s"] / usual["steps/s"]
        lines.append((labels.t("speed.training_gpu", **told), _rate(large["steps/s"]), peer, ratio))
        about.append(_on_gpu(gpu, profile))
    if learners := _record(paths.results("speed") / "independent.json"):
        for row in learners["rows"]:
            here, peer = (_rate(row[f"{make}_updates/s"], "updates") for make in ("bare", "sb3"))
            lines.append((labels.t(f"speed.{row['learner']}"), here, f"Stable-Baselines3: {peer}", row["bare_ratio"]))
    if latency := _record(paths.results(profile) / "latency.json"):
        forms = pd.read_csv(paths.tables(profile) / "latency_forms.csv").set_index(["variant", "form"])["p50_us"]
        ours, peer = forms["broadcast", "onnx"], forms["broadcast", "eager"]
        lines.append((labels.t("speed.decision"), _time(ours), f"torch: {_time(peer)}", peer / ours))
        served = labels.t("speed.service", **_numbers(latency["service"]))
        about.append(f"{_measured_on('make latency', latency)} {served}")
    service = _record(paths.results("speed") / "service.json")
    if service and "year_kpi_difference" in service["figures"]:
        difference = labels.scientific(service["figures"]["year_kpi_difference"])
        about.append(labels.t("speed.year", difference=difference))
    for name in (profile, "ablations"):
        records = [run.record() for run in evaluation.runs(name)]
        if records:
            stages = [spent for record in records for spent in record["stages"].values()]
            hours, wall = (sum(spent[clock] for spent in stages) / 3600 for clock in ("cpu_s", "wall_s"))
            told = {"hours": labels.number(hours, 1), "wall": labels.number(wall / 2, 1)}  # two cores, one run each
            about.append(labels.t("speed.hours", command=name, runs=len(records), **told))
    if len(rows := gap.read("ablations")):
        hours = rows.drop_duplicates(["variant", "seed"])["training_seconds"].sum() / 3600
        about.append(labels.t("speed.gap", hours=labels.number(hours, 1)))
    if not lines:
        return labels.t("readme.nothing", command="make benchmark")
    head = [labels.t(f"speed.{name}") for name in ("what", "here", "beside", "ratio")]
    cells = [[what, here, beside, labels.number(ratio, 0 if ratio >= 10 else 1)] for what, here, beside, ratio in lines]
    table = [head, ["---", "---:", "---:", "---:"], *cells]
    table_lines = ["| " + " | ".join(line) + " |" for line in table]
    return "\n".join([*table_lines, "", *(f"- {text}" for text in about)])


def differences(kpis: pd.DataFrame | None, weeks: pd.DataFrame) -> str:
    """The part ``ablations``: what each variant changes, by the name that it has in configs/ablations.yaml.

    Args:
        kpis: the long table of the ablations; None if none has run yet.
        weeks: their composites by test week, as of `comparison.weekly`.

    Returns:
        Markdown, in English: a table of the variants that are there. Without rows, one sentence.
    """
    rows, lines = pd.DataFrame(columns=evaluation.COLUMNS) if kpis is None else kpis, []
    for family in ablations.FAMILIES.values():
        if ablations.learned(rows, [family.reference], **ABLATED).empty:
            continue
        found = ablations.compare(rows, family, weeks, **ABLATED)
        for row in found[found["variant"] != family.reference].to_dict("records"):
            change = labels.difference(row["difference"], row["difference_half"])
            names = [f"`{name}`" for name in (row["variant"], family.reference)]
            met = labels.percent(row[tables.SERVICE[0]], 1) + ("" if row["gate"] else " †")
            p = [labels.p_value(row[column]) for column in ("p_holm", "p_weeks")]
            lines.append([*names, change, *p, row["seeds"], met])
    if not lines:
        return labels.t("readme.nothing", command="make ablations")
    ends = ["Holm's p", "by week", "Seeds", "Departures met, worst seed"]
    head = ["Variant", "Compared with", "Difference in composite", *ends]
    table = [head, ["---", "---", *["---:"] * 5], *lines]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in table)


def distance(kpis: pd.DataFrame | None) -> str:
    """The part ``gap`` of docs/algorithm.md, in English: steps from ours to the bound, and what may not be had lifted.

    Args:
        kpis: the long table of the thesis; None if it is not there.

    Returns:
        Markdown: two tables; one sentence without rows.
    """
    apart = pd.DataFrame() if kpis is None else tables.bounds(kpis, engine=WHERE["engine"], edition=WHERE["edition"])
    lifted = gap.read("ablations")
    if apart.empty or lifted.empty:
        return labels.t("readme.nothing", command="make ablations")
    apart = apart.sort_values("composite_test", ascending=False)
    lines = [["", "Year", "above its bound", "Test weeks", "above their bound"], ["---", *["---:"] * 4]]
    for row in apart.to_dict("records"):
        values = [row[f"{what}_{split}"] for split in ("year", "test") for what in ("composite", "above")]
        name = tables.marked((row["controller"], row["variant"]))
        lines.append([name, *(labels.number(value, 3) for value in values)])
    found = gap_figures.gap_summary(lifted).set_index("variant")
    by_seed = lifted[lifted["split"] == "test"].pivot(index="seed", columns="variant", values="composite")
    below = [["Lifted", "Test weeks", "Difference", "Train weeks", "Seeds"], ["---", *["---:"] * 4]]
    for name, row in found.iterrows():
        change = (by_seed[name] - by_seed["headline"]).dropna()
        told = "–" if name == "headline" else labels.difference(change.mean(), tables.half_width(change))
        cells = [labels.number(row["test"], 3), told, labels.number(row["train"], 3), str(int(row["seeds"]))]
        below.append([labels.t(f"gap.{name}"), *cells])
    return "\n\n".join("\n".join("| " + " | ".join(line) + " |" for line in table) for table in (lines, below))


def budgets() -> str:
    """The part ``tuning`` of docs/protocol.md, in English: minutes of tuning by learner, by hand and by the search."""
    hand = pd.concat([pd.read_csv(paths.ROOT / "docs" / name) for name in HAND_TUNED], keys=HAND_TUNED).droplevel(1)
    lines, own = [], hand["name"].str.partition("_")[0]
    for controller, (file, names) in TUNED.items():
        tried = hand[(hand.index == file) & (own.isin(names) if names else ~own.isin(PLAIN))]
        cells = [str(len(tried)), labels.number(tried["minutes"].sum(), 0)]
        minutes, found = tried["minutes"].sum(), paths.tuning(controller)
        if found.is_file():
            trials = pd.read_csv(found)
            whole = trials[trials["state"] == "COMPLETE"]["composite"]
            minutes += trials["minutes"].sum()
            cells += [str(len(trials)), labels.number(trials["minutes"].sum(), 0), labels.number(minutes, 0)]
            first = whole.get(0, math.nan)  # the profile's own, if it was seen through
            cells += [labels.number(value, 4) for value in (first, whole.min())]
        else:
            cells += ["–", "–", labels.number(minutes, 0), "–", "–"]
        lines.append([labels.controller(controller), *cells])
    ends = ["By hand: trials", "minutes", "By the search: trials", "minutes", "Minutes in all"]
    head = ["Learner", *ends, "The search's first, chosen by hand", "Its best"]
    table = [head, ["---", *["---:"] * 7], *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


def _learned(training: dict[str, Any]) -> str:
    """What a step and an update are on either side of the training benchmark, by its rows of all cores."""
    rates = {row["what"]: row["updates/s"] for row in training["rows"]}  # the last of each: all cores
    usual, ours = (labels.number(rate, 0 if rate >= 100 else 1) for rate in rates.values())
    minutes = labels.number(training["figures"]["minutes_to_rule_level"], 1)
    text = labels.t("speed.learned", usual=usual, ours=ours, minutes=minutes)
    if level := training["usual_level"]:
        told = {"spent": labels.number(level["spent"], 0), "hours": labels.number(level["steps"], 0)}
        told |= {name: labels.number(level[name], 2) for name in ("composite", "lowest", "rule")}
        words = "speed.usual_reached" if "minutes" in level else "speed.usual"
        text += " " + labels.t(words, **told, met=labels.percent(level["departures_met"], 0))
    return text


def _on_gpu(gpu: dict[str, Any], profile: str) -> str:
    """What a GPU brings: updates with the profile's copies and with more, and how a training with more ends."""
    _, small, large = gpu["rows"]
    variant = gpu["config"]["variant"]
    numbers = {"small": (small["updates/s"], 1), "large": (large["updates/s"], 1), "copies": (small["copies"], 0)}
    numbers |= {"more": (large["copies"], 0), "minutes": (gpu["figures"]["minutes"], 1)}
    told = {name: labels.number(value, digits) for name, (value, digits) in numbers.items()}
    told |= {"gpu": _gpu_name(gpu), "torch": gpu["packages"]["torch"], "cores": gpu["cpu_count"], "variant": variant}
    text = labels.t("speed.gpu", **told, composite=labels.number(gpu["whole"]["composite"], 3))
    logs = evaluation.training_logs(profile, "official", [(CONTROLLER, variant)])
    if len(logs):
        ends = logs[logs["passes"] == 1].groupby("seed")["composite"].min()
        low, high = (labels.number(value, 3) for value in (ends.min(), ends.max()))
        text += " " + labels.t("speed.gpu_ends", copies=told["copies"], low=low, high=high)
    return text


def _gpu_name(gpu: dict[str, Any]) -> str:
    return gpu["device"].partition("(")[2].rstrip(")")


def update_time() -> str:
    """The part ``profile``: where the time of an update goes, in English; without a measurement, one sentence."""
    record = _record(paths.results("speed") / "where.json")
    if record is None:
        return labels.t("readme.nothing", command="make benchmark")
    forms = list(dict.fromkeys(row["form"] for row in record["rows"]))
    shares = {(row["part"], row["form"]): labels.percent(row["share"], 1) for row in record["rows"]}
    lines = [[part, *(shares[part, form] for form in forms)] for part in dict.fromkeys(part for part, _ in shares)]
    for what, name, digits in (("seconds an update", "s", 2), ("operators started", "operators", 0)):
        figures = (record["figures"][f"{form}_{name}_per_update"] for form in forms)
        lines.append([what, *(labels.number(value, digits) for value in figures)])
    own = [labels.percent(record["figures"][f"{form}_operators_share"], 1) for form in forms]
    lines.append(["operators' own time, of what the profiler saw", *own])
    table = [["Part of an update", *forms], ["---", *["---:"] * len(forms)], *lines]
    told = {name: record["figures"][name] for name in ("seeds", "seeds_s_per_update", "seeds_saving")}
    about = (
        f"With {told['seeds']} times the batch, as many seeds' in one process, an update takes "
        f"{labels.number(told['seeds_s_per_update'], 2)} s, which is {labels.number(told['seeds_saving'], 2)} times "
        f"quicker a copy. {_measured_on('benchmarks/where.py', record)}"
    )
    return "\n".join("| " + " | ".join(line) + " |" for line in table) + f"\n\n{about}"


def _record(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _rate(value: float, of: str = "rate") -> str:
    return f"{labels.number(value, 0)}{labels.SPACE}{labels.t(f'speed.{of}')}"


def _time(microseconds: float) -> str:
    return f"{labels.number(microseconds, 0)}{labels.SPACE}µs"


def _measured_on(command: str, record: dict[str, Any]) -> str:
    return labels.t("speed.where", command=command, cpu=record["cpu"], cores=record["cpu_count"])


def _numbers(service: dict[str, float]) -> dict[str, str]:
    digits = {"saturation_rps": 0, "rss_mb": 0, "ready_s": 1}
    return {name: labels.number(value, digits.get(name, 2)) for name, value in service.items()}


def read(profile: str) -> pd.DataFrame | None:
    """The long table of a profile, or None if it has not been written.

    Raises:
        EvaluationError: it has other columns than it should.
    """
    file = paths.results(profile) / "kpis.csv"
    return evaluation.read_rows(file) if file.is_file() else None


def written(text: str, part: str, inner: str, name: str = "README.md") -> str:
    """A file's text with a part put between its markers.

    Raises:
        ReadmeError: not exactly one of each marker, in this order.
    """
    begin, end = (f"<!-- {part}: {edge} -->" for edge in ("begin", "end"))
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ReadmeError(f"{name} needs one line '{begin}' and below it one line '{end}': put them back.")
    return f"{text[: text.index(begin)]}{begin}\n{inner}\n{text[text.index(end) :]}"


def rendered(profile: str = "thesis") -> dict[Path, str]:
    """The files as the rows want them: file -> text.

    Raises:
        ReadmeError, EvaluationError, ConfigError: as ``written``, ``read`` and ``load_config``.
        OSError: a README cannot be read.
    """
    kpis, seeds = read(profile), len(load_config(profile).seeds)
    texts = {}
    for language, name in FILES.items():
        with labels.using(language):
            file = paths.ROOT / name
            text = written(file.read_text(encoding="utf-8"), "results", block(kpis, profile, seeds), name)
            texts[file] = written(text, "speed", speed(profile), name)
    file = paths.ROOT / PROTOCOL
    with labels.using("en"):
        texts[file] = written(file.read_text(encoding="utf-8"), "tuning", budgets(), PROTOCOL)
    file = paths.ROOT / ALGORITHM
    with labels.using("en"):
        families = ablations.FAMILIES.values()
        asked = dict.fromkeys(name for family in families for name in (family.reference, *family.variants))
        pairs = [(ablations.CONTROLLER, name) for name in asked]
        weeks = comparison.weekly("ablations", pairs, engine=ABLATED["engine"], edition=ABLATED["edition"])
        changes = differences(evaluation.gather("ablations") if evaluation.runs("ablations") else None, weeks)
        text = written(file.read_text(encoding="utf-8"), "ablations", changes, ALGORITHM)
        text = written(text, "gap", distance(kpis), ALGORITHM)
        texts[file] = written(text, "profile", update_time(), ALGORITHM)
    return texts


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the figures of the READMEs, docs/algorithm.md and docs/protocol.md from what runs have left, or check them.

    Exit status 0; 1 after a one-line error on stderr, or if a file does not hold what the rows say.
    """
    parser = argparse.ArgumentParser(prog="python -m thesis_lib.analysis.readme", description=main.__doc__)
    parser.add_argument("--profile", default="thesis", help="whose rows (default: thesis)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something would change")
    given = parser.parse_args(arguments)
    try:
        texts = rendered(given.profile)
        stale = [file for file, text in texts.items() if file.read_text(encoding="utf-8") != text]
        if given.check and stale:
            names = ", ".join(file.name for file in stale)
            command = f"python -m thesis_lib.analysis.readme --profile {given.profile}"
            raise ReadmeError(f"{names}: not what the rows say; run {command}")
        for file in stale:
            write_text_atomic(file, texts[file])
            print(f"written: {file.name}")
    except (ReadmeError, EvaluationError, ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
