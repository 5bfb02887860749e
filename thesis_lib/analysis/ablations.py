"""The ablations: which variants answer one question together, and their tables, figures and sentences.

Every variant of ``configs/ablations.yaml`` differs from the one it is compared with in one thing, and in what has to go
with it: as many updates as take about the same time, an optimiser's own rate. All are compared seed by seed on the
composite, in the fast model; the p values of a family are corrected together (Holm). Whatever rows are there are used,
and what is missing is said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from thesis_lib import paths
from thesis_lib.analysis import comparison, labels, page, statistics, tables
from thesis_lib.analysis.learner import CONTROLLER


@dataclass(frozen=True)
class Family:
    """Variants whose differences to one reference are tested together."""

    name: str  # family.<name> of labels
    reference: str
    variants: tuple[str, ...]


FAMILIES = {
    family.name: family
    for family in (
        Family("coordination", "headline", ("none", "broadcast", "attention", "mean_field", "shared_actors")),
        Family("latency", "broadcast", ("broadcast_late",)),
        Family("horizon", "headline", ("horizon_0", "horizon_1", "horizon_6", "horizon_24", "no_tail")),
        Family("learning", "headline", ("individual_reward", "critics_per_agent")),
        Family(
            "training",
            "headline",
            ("no_augment", "no_leak", "adam", "constant_rates", "no_clip", "no_offset", "last_policy"),
        ),
        Family("start", "broadcast", ("no_habits",)),
        Family("maddpg", "horizon_0", ("horizon_0_ou", "horizon_0_critics")),
        Family(
            "replay",
            "maddpg",
            (
                "maddpg_no_habits",
                "maddpg_no_warmup",
                "maddpg_one_step",
                "maddpg_long_discount",
                "maddpg_fast_actors",
                "maddpg_short_memory",
                "maddpg_few_copies",
                "maddpg_team",
                "maddpg_no_offset",
            ),
        ),
        Family(
            "weights",
            "headline",
            ("bill_only", "bill_first", "grid_first", "grid_only", "cost_only", "emissions_only", "peak_only"),
        ),
        Family("service", "headline", ("guard_off", "full_charge", "v2g_off")),
        Family("meters", "headline", ("noise_10", "noise_30", "missing_10", "missing_30")),
        Family("margin", "full_charge", ("full_noise_10", "full_noise_30", "full_missing_10", "full_missing_30")),
        Family("unseen", "shared_actors", ("trained_on_5", "trained_on_10")),
    )
}
FRONT = ("bill_only", "bill_first", "headline", "grid_first", "grid_only")  # one line of weights, in order
SIZES = ("scale_5", "scale_10", "headline", "scale_100", "scale_1000")  # each over BAU of its own community


def learned(kpis: pd.DataFrame, variants: Iterable[str], **where: str) -> pd.DataFrame:
    """The learner's rows of these variants, in one split, engine and edition; may be empty.

    Raises:
        ValueError: as `tables.select`, if there are rows, but of nobody there.
    """
    rows = tables.select(kpis, **where) if len(kpis) else kpis
    return rows[(rows["controller"] == CONTROLLER) & rows["variant"].isin(list(variants))]


def missing(kpis: pd.DataFrame, variants: Sequence[str], seeds: Sequence[int], **where: str) -> dict[str, list[int]]:
    """Variant -> the seeds of which there are no rows; variants without a gap are left out.

    Args:
        kpis: the long table.
        variants, seeds: that should be there.
        **where: split, engine and edition.
    """
    found = composites(kpis, variants, **where)
    gaps = {name: sorted(set(seeds) - set(found[name].index if name in found else ())) for name in variants}
    return {name: seeds for name, seeds in gaps.items() if seeds}


def composites(kpis: pd.DataFrame, variants: Iterable[str], **where: str) -> dict[str, pd.Series]:
    """Variant -> its composite by seed, in order; variants without one are left out."""
    rows = learned(kpis, variants, **where)
    found = {name: comparison.by_seed(rows, (CONTROLLER, name)) for name in variants}
    return {name: values for name, values in found.items() if len(values)}


def compare(kpis: pd.DataFrame, family: Family, weeks: pd.DataFrame | None = None, **where: str) -> pd.DataFrame:
    """The family's table: its reference first, then the variants that are there; those that fail the gate last.

    Args:
        kpis: the long table.
        family: which.
        weeks: as of `comparison.weekly`, for the comparison by test week.
        **where: split, engine and edition.

    Returns:
        Columns variant, seeds, gate (bool), ev_departures_met (of the worst seed), composite_vs_bau and _half (t), iqm
        with _low and _high (bootstrap), difference and _half (paired by seed, minus the reference), p (paired t test),
        p_holm (of the tests of the family), improvement (probability of a lower composite than the reference's); with
        ``weeks`` also difference_weeks and p_weeks (paired t test over weeks, Holm). NaN where there is nothing to
        test.

    Raises:
        ValueError: the reference has no rows.

    Source:
        `statistics`.
    """
    names = (family.reference, *family.variants)
    values = composites(kpis, names, **where)
    if family.reference not in values:
        raise ValueError(f"no rows of {family.reference}, with which this family is compared: train it first")
    service = tables.gate(learned(kpis, names, **where))
    base = values[family.reference]
    lines = []
    for name, own in values.items():
        iqm, other = statistics.iqm(own), name != family.reference
        pair = statistics.paired(own, base) if other else None
        line = {
            "variant": name,
            "seeds": len(own),
            "gate": bool(service.loc[(CONTROLLER, name), "passes"]),
            tables.SERVICE[0]: service.loc[(CONTROLLER, name), tables.SERVICE[0]],
            tables.COMPOSITE: own.mean(),
            f"{tables.COMPOSITE}_half": statistics.half_width(own),
            "iqm": iqm.value,
            "iqm_low": iqm.low,
            "iqm_high": iqm.high,
            "difference": pair.difference if pair else np.nan,
            "difference_half": pair.half if pair else np.nan,
            "p": pair.p if pair else np.nan,
            "improvement": statistics.improvement(own, base) if other else np.nan,
        }
        if weeks is not None:
            ours, theirs = (comparison.rows_of(weeks, (CONTROLLER, which)) for which in (name, family.reference))
            over = statistics.paired_by_week(ours, theirs) if other else None
            line |= {
                "difference_weeks": over.difference if over else np.nan,
                "p_weeks": over.p if over else np.nan,
            }
        lines.append(line)
    table = pd.DataFrame(lines)
    table.insert(table.columns.get_loc("p") + 1, "p_holm", statistics.holm(table["p"]))
    if weeks is not None:
        table["p_weeks"] = statistics.holm(table["p_weeks"])
    first = table["variant"] == family.reference
    return table.iloc[np.lexsort((~first, ~table["gate"]))].reset_index(drop=True)


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of `compare` that a page holds: what is corrected, without what it was corrected from."""
    return table.drop(columns=["p", "difference_weeks"], errors="ignore")


def caption(family: Family, **where: str) -> str:
    """The caption of a family's table."""
    names = {"family": labels.t(f"family.{family.name}"), "reference": labels.variant(family.reference)}
    return labels.t("caption.family", **names, **_where(**where))


def sentences(table: pd.DataFrame, family: Family) -> list[str]:
    """What a family's table says, one English sentence a variant, and who fails the gate."""
    with labels.using("en"):
        texts = []
        for line in table.to_dict("records"):
            name, value = labels.variant(line["variant"]), line[tables.COMPOSITE]
            if line["variant"] == family.reference:
                text = f"*{name}*, the reference: {_interval(value, line[f'{tables.COMPOSITE}_half'])}"
            elif np.isnan(line["difference"]):
                text = f"*{name}*: {labels.number(value, 3)}, without a seed in common with the reference"
            else:
                change = labels.difference(line["difference"], line["difference_half"])
                text = f"*{name}*: {labels.number(value, 3)}, a difference of {change}, {comparison.verdict(line)}"
            met = f"its worst seed meets {labels.percent(line[tables.SERVICE[0]], 1)} of the departures"
            texts.append(text + ("." if line["gate"] else f"; it **fails the service gate**: {met}."))
    return texts


def _interval(value: float, half: float, sign: bool = False) -> str:
    text = labels.number(value, 3, sign=sign)
    return text if np.isnan(half) else f"{text} ± {labels.number(half, 3)}"


def _where(*, split: str, engine: str, edition: str) -> dict[str, str]:
    return {
        "split": labels.t(f"weeks.{split}"),
        "engine": labels.t(f"engine.{engine}"),
        "edition": labels.t(f"edition.{edition}"),
    }


# ------------------------------------------------------------------------------- paired differences


def differences(kpis: pd.DataFrame, table: pd.DataFrame, family: Family, **where: str) -> pd.DataFrame:
    """What `compare` took the means of: each variant's composite minus the reference's, seed by seed.

    Args:
        kpis: the long table.
        table: of the family, as `compare` gives it: its variants, in its order.
        **where: split, engine and edition.

    Returns:
        Columns variant, seed, difference.
    """
    values = composites(kpis, (family.reference, *family.variants), **where)
    found = [
        (values[name] - values[family.reference]).dropna().rename("difference").reset_index().assign(variant=name)
        for name in table["variant"]
        if name != family.reference
    ]
    return pd.concat(found, ignore_index=True)[["variant", "seed", "difference"]]


def forest(points: pd.DataFrame, table: pd.DataFrame, family: Family) -> Figure:
    """Each variant's paired differences in composite to the reference: seeds, mean and t interval.

    Args:
        points: as `differences` gives them.
        table: of the family, as `compare` gives it. Variants below the gate are grey.
    """
    lines = [line for line in table.to_dict("records") if line["variant"] != family.reference]
    fig, ax = plt.subplots(figsize=(page.TEXT_WIDTH, 0.95 + 0.33 * len(lines)))
    for y, line in enumerate(lines):
        own = points.loc[points["variant"] == line["variant"], "difference"]
        color = "#0072B2" if line["gate"] else "0.6"
        offsets = y + np.linspace(-0.25, 0.25, len(own)) if len(own) > 1 else [y] * len(own)
        ax.plot(own, offsets, "o", ms=3, mfc="white", mec=color, mew=0.8, ls="", zorder=3)
        if len(own) > 1:
            ax.errorbar(line["difference"], y, xerr=line["difference_half"], color="black", lw=1.2, capsize=3, zorder=4)
        ax.plot(line["difference"], y, "D", ms=4.5, color=color, mec="black", mew=0.6, zorder=5)
    ax.axvline(0, color="black", lw=0.8, ls=(0, (4, 2)))
    ax.set_yticks(range(len(lines)), [labels.variant(x["variant"]) + ("" if x["gate"] else " †") for x in lines])
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(labels.Numbers())
    ax.set_xlabel(labels.t("axis.difference", reference=labels.variant(family.reference)) + " (–)")
    return page.laid_out(fig)


def forest_caption(table: pd.DataFrame, family: Family, **where: str) -> str:
    """The caption of `forest`, with the differences it shows."""
    texts = [
        labels.t(
            "caption.forest_line",
            variant=labels.variant(line["variant"]),
            difference=labels.difference(line["difference"], line["difference_half"]),
            p=labels.p_value(line["p_holm"]),
        )
        for line in table.to_dict("records")
        if line["variant"] != family.reference
    ]
    seeds = sorted({int(line["seeds"]) for line in table.to_dict("records") if line["variant"] != family.reference})
    return labels.t(
        "caption.forest",
        seeds="–".join(dict.fromkeys(map(str, (seeds[0], seeds[-1])))),
        family=labels.t(f"family.{family.name}"),
        reference=labels.variant(family.reference),
        differences=labels.listing(texts),
        failing=_failing(table[~table["gate"]].set_index("variant")[tables.SERVICE[0]]),
        **_where(**where),
    )


def _failing(met: pd.Series) -> str:
    """Who fails the gate, with the departures that its worst seed meets; ``met`` by variant."""
    names = [
        labels.t("caption.met", variant=labels.variant(str(name)), met=labels.percent(share, 1))
        for name, share in met.items()
    ]
    return labels.t("caption.dagger", variants=labels.listing(names)) if names else ""


# ------------------------------------------------------------------------------------- the front

MARKERS = "osD^vPX*<>"


def ratios(kpis: pd.DataFrame, variants: Sequence[str], **where: str) -> pd.DataFrame:
    """The composite's terms of each variant and seed over business as usual's, and whether the variant serves.

    Returns:
        Columns variant, seed, gate, ev_departures_met (of the worst seed), and one for each term (–).

    Raises:
        ValueError: business as usual is missing, or none of the variants is there.
    """
    rows = learned(kpis, variants, **where)
    if rows.empty:
        raise ValueError(f"no rows of {', '.join(variants)}: train them first")
    usual = kpis[(kpis["controller"] == tables.BAU) & (kpis["variant"] == "default")]
    over = tables.relative(pd.concat([rows, tables.select(usual, **where)]))
    over = over[(over["controller"] == CONTROLLER) & over["kpi"].isin(tables.TERMS)]
    wide = over.pivot(index=["variant", "seed"], columns="kpi", values="value")[tables.TERMS]
    wide = wide.rename_axis(columns=None).reset_index()
    service = tables.gate(rows).loc[[(CONTROLLER, name) for name in wide["variant"]]]
    wide.insert(2, "gate", service["passes"].to_numpy())
    wide.insert(3, tables.SERVICE[0], service[tables.SERVICE[0]].to_numpy())
    order = wide["variant"].map({name: place for place, name in enumerate(variants)})
    return wide.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)


def front(terms: pd.DataFrame) -> Figure:
    """What priorities gain and lose: daily peak, ramping and emissions against cost, all over BAU.

    Args:
        terms: as `ratios` gives them. The variants of `FRONT` are joined by a line; those below the gate are hollow.
    """
    names = list(dict.fromkeys(terms["variant"]))
    middle = terms.groupby("variant")[tables.TERMS].mean()
    serves = terms.groupby("variant")["gate"].all()
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(names)))
    against = ("daily_peak", "ramping", "emissions")
    fig, axes = plt.subplots(1, len(against), figsize=(page.TEXT_WIDTH, 3.1))
    line = [name for name in FRONT if name in middle.index]
    for ax, term in zip(axes, against, strict=True):
        ax.plot(middle.loc[line, "cost"], middle.loc[line, term], color="0.6", lw=1, zorder=1)
        for name, color, marker in zip(names, colors, MARKERS, strict=False):
            own = terms[terms["variant"] == name]
            ax.plot(own["cost"], own[term], ".", color=color, ms=3, alpha=0.7, zorder=2)
            ax.plot(
                middle.loc[name, "cost"],
                middle.loc[name, term],
                marker=marker,
                mfc=color if serves[name] else "white",
                mec="black" if serves[name] else color,
                mew=0.6,
                ms=6,
                ls="",
                zorder=3,
                label=labels.variant(name) + ("" if serves[name] else " †"),
            )
        ax.set_xlabel(f"{labels.kpi('cost')} / BAU (–)")
        ax.set_ylabel(f"{labels.kpi(term)} / BAU (–)")
        ax.xaxis.set_major_locator(plt.MaxNLocator(2))  # more would touch in so narrow a panel
        ax.yaxis.set_major_locator(plt.MaxNLocator(4))
        page.number_ticks(ax)
    page.legend_below(fig, axes[0])
    return page.laid_out(fig)


def front_caption(terms: pd.DataFrame, **where: str) -> str:
    """The caption of `front`."""
    serving = terms[terms["gate"]]
    middle = (serving if len(serving) else terms).groupby("variant")[tables.TERMS].mean()

    def least(term: str) -> str:
        name = middle[term].idxmin()
        value = labels.number(middle[term].min(), 3)
        return labels.t("caption.front_point", variant=labels.variant(str(name)), value=value)

    return labels.t(
        "caption.front",
        cheapest=least("cost"),
        flattest=least("daily_peak"),
        failing=_failing(terms[~terms["gate"]].groupby("variant", sort=False)[tables.SERVICE[0]].min()),
        **_where(**where),
    )


# ------------------------------------------------------------------------------------------ size


def sizes(profile: str, kpis: pd.DataFrame, variants: Sequence[str] = SIZES, **where: str) -> pd.DataFrame:
    """What size costs, from the records of the runs that are there: one line a variant, by number of homes.

    Returns:
        Columns homes, seeds, gate, batch, updates (mean), seconds_per_update (s, mean; after the first validation, so
        without compilation but with the later validations; NaN with a single one), microseconds (of one home in one
        rolled hour), memory (GiB, largest of the seeds; NaN where it could not be told), composite_vs_bau and _half
        (over business as usual of the same homes).
    """
    lines = []
    for name, own in composites(kpis, variants, **where).items():
        passes = tables.gate(learned(kpis, [name], **where))["passes"].all()
        folders = [paths.run(profile, where["edition"], CONTROLLER, name, int(seed)) for seed in own.index]
        records = [json.loads((folder / "run.json").read_text("utf-8")) for folder in folders]
        trainings, settings = [r["training"] for r in records], records[0]["settings"]["train"]
        seconds = float(np.mean([_seconds_per_update(pd.read_csv(folder / "training.csv")) for folder in folders]))
        homes, hours = records[0]["homes"], max(settings["rollout_horizon"], 1)
        memory = [t["memory_mb"] for t in trainings if t["memory_mb"] is not None]
        lines.append(
            {
                "homes": homes,
                "seeds": len(own),
                "gate": bool(passes),
                "batch": settings["batch"],
                "updates": float(np.mean([t["updates"] for t in trainings])),
                "seconds_per_update": seconds,
                "microseconds": 1e6 * seconds / (homes * settings["batch"] * hours),
                "memory": max(memory) / 1024 if memory else np.nan,
                tables.COMPOSITE: own.mean(),
                f"{tables.COMPOSITE}_half": statistics.half_width(own),
            }
        )
    return pd.DataFrame(lines).sort_values("homes", ignore_index=True) if lines else pd.DataFrame()


def _seconds_per_update(log: pd.DataFrame) -> float:
    first, last = log.iloc[0], log.iloc[-1]
    return (last["seconds"] - first["seconds"]) / (last["update"] - first["update"]) if len(log) > 1 else float("nan")


def _alike(table: pd.DataFrame) -> pd.Series:
    """Which sizes were trained with as many copies and updates as any."""
    return (table["batch"] == table["batch"].max()) & (table["updates"] == table["updates"].max())


def scale(table: pd.DataFrame) -> Figure:
    """Time of one home in one hour, peak memory and composite by number of homes, on a logarithmic axis.

    Args:
        table: as `sizes` gives it. Sizes with fewer copies or updates than the others are hollow, off the line.
    """
    panels = (
        ("microseconds", labels.axis("axis.microseconds", "µs"), True),
        ("memory", labels.axis("axis.memory", "GiB"), True),
        (tables.COMPOSITE, f"{labels.kpi(tables.COMPOSITE)} / BAU (–)", False),
    )
    alike = _alike(table)
    fig, axes = plt.subplots(1, 3, figsize=(page.TEXT_WIDTH, 2.9))
    for ax, (column, label, logarithmic) in zip(axes, panels, strict=True):
        for rows, line, fill in ((table[alike], "-", "#0072B2"), (table[~alike], "", "white")):
            half = rows.get(f"{column}_half")
            looks: dict[str, Any] = {"color": "#0072B2", "marker": "o", "ms": 5, "lw": 1.2, "capsize": 3}
            ax.errorbar(rows["homes"], rows[column], yerr=half, ls=line, mfc=fill, **looks)
        ax.set_xscale("log")
        ax.yaxis.set_major_formatter(labels.Numbers())
        if logarithmic:
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.yaxis.set_major_formatter(FuncFormatter(labels.Numbers()))  # each tick with its own decimals
            ax.yaxis.set_minor_locator(NullLocator())
        # Where two sizes are near each other, the larger one is named.
        sizes = table["homes"].tolist()
        named = [now for now, after in zip(sizes, [*sizes[1:], None], strict=True) if after is None or after >= 2 * now]
        ax.xaxis.set_major_locator(FixedLocator(named))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(labels.Numbers())
        ax.tick_params(axis="x", labelsize=7.5)
        ax.set_xlabel(f"{labels.t('axis.homes')} ({labels.t('unit.number')})")
        ax.set_ylabel(label)
    return page.laid_out(fig)


def scale_caption(table: pd.DataFrame, of: str = "scale", **where: str) -> str:
    """The caption of `scale`, or of its table (``of`` scale_table)."""
    texts = [
        labels.t(
            "caption.scale_point",
            homes=labels.number(line["homes"], 0),
            batch=labels.number(line["batch"], 0),
            updates=labels.number(line["updates"], 0),
            each=labels.number(line["microseconds"], 1),
            memory=labels.number(line["memory"], 1),
        )
        for line in table.to_dict("records")
    ]
    seeds = "–".join(dict.fromkeys(labels.number(count, 0) for count in (table["seeds"].min(), table["seeds"].max())))
    return labels.t(f"caption.{of}", points=labels.listing(texts), seeds=seeds, **_where(**where))


# ------------------------------------------------------------------------------------ home by home


def cost_by_group(
    costs: pd.DataFrame, reference: pd.DataFrame, usual: pd.DataFrame, trained: Sequence[str]
) -> pd.DataFrame:
    """Cost over business as usual of the homes trained on and of the others.

    Args:
        costs, reference, usual: as `evaluation.read_bills` gives them, of a policy trained on some homes, of one
            trained on all (paired by seed) and of business as usual (one line), on the same rows.
        trained: names of the homes trained on.

    Returns:
        Columns group (trained, unseen), homes, seeds (pairs), then of the group's whole bill, each with its ``_half``
        (t): cost_vs_bau, cost_reference (–) and cost_difference (of the two, paired).
    """
    group = np.where(usual.columns.isin(list(trained)), "trained", "unseen")
    lines = []
    for name in dict.fromkeys(group):
        homes = usual.columns[group == name]
        own, other = (frame[homes].sum(axis=1) / usual[homes].iloc[0].sum() for frame in (costs, reference))
        parts = {"cost_vs_bau": own, "cost_reference": other, "cost_difference": (own - other).dropna()}
        line: dict[str, Any] = {"group": name, "homes": len(homes), "seeds": len(parts["cost_difference"])}
        for column, values in parts.items():
            line |= {column: values.mean(), f"{column}_half": statistics.half_width(values)}
        lines.append(line)
    return pd.DataFrame(lines)


def exchanged(flows: pd.DataFrame | None) -> tuple[float, float]:
    """Energy that cars gave back at the chargers in a run and that they took, kWh; not known without flows.

    Args:
        flows: as of `evaluation.read_flows`.
    """
    if flows is None:
        return float("nan"), float("nan")
    energy = flows[[name for name in flows if name.startswith("charger/")]].to_numpy()
    return float(-energy.clip(max=0).sum()), float(energy.clip(min=0).sum())


# ------------------------------------------------------------------------------------ in a notebook


def publish(
    name: str | Family,
    kpis: pd.DataFrame,
    profile: str,
    seeds: Sequence[int],
    weeks: pd.DataFrame | None = None,
    **where: str,
) -> None:
    """Save a family's table and figure and show them, with what they say and what is missing.

    Args:
        name: of the family, or one that is not among `FAMILIES`.
        kpis: the long table.
        profile: whose folders.
        seeds: that should be there.
        weeks: as of `comparison.weekly`.
        **where: split, engine and edition.

    Raises:
        OSError: the folders cannot be written.
    """
    family = name if isinstance(name, Family) else FAMILIES[name]
    names = (family.reference, *family.variants)
    there = composites(kpis, names, **where)
    if family.reference in there and len(there) > 1:
        table = compare(kpis, family, weeks if weeks is not None and len(weeks) else None, **where)
        tables.publish(printed(table), f"ablation_{family.name}", profile, lambda: caption(family, **where))
        points = differences(kpis, table, family, **where)
        page.publish(
            lambda: forest(points, table, family),
            lambda: forest_caption(table, family, **where),
            f"ablation_{family.name}",
            profile,
            points,
        )
        display(Markdown("\n".join(f"- {text}" for text in sentences(table, family))))
    gaps = missing(kpis, names, seeds, **where)
    if gaps:
        display(Markdown(f"**No rows yet:** {told(gaps)}."))


def told(gaps: Mapping[Any, list[int]]) -> str:
    """Variants with seeds, as `missing` gives them, in one English phrase."""
    return "; ".join(f"`{name}` (seeds {', '.join(map(str, seeds))})" for name, seeds in gaps.items())
