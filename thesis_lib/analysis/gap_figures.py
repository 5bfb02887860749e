"""What the rows of ``gap`` and ``gradients`` say: a table, a caption and a figure of each.

Apart from them, because their rows are made anew whenever their own code changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from thesis_lib.analysis import labels, page, statistics
from thesis_lib.analysis.gap import VARIANTS
from thesis_lib.analysis.gradients import BATCH, EXACT
from thesis_lib.community.splits import SPLITS


def outdated(rows: pd.DataFrame, recipe_of: Callable[[Any, int], str]) -> dict[Any, list[int]]:
    """Variant (or horizon) -> the seeds whose rows are of other settings, data or code than today's.

    Args:
        rows: of gap.csv or gradients.csv.
        recipe_of: takes a variant (or horizon) and a seed, gives today's recipe.
    """
    found: dict[Any, list[int]] = {}
    for name, seed, made_from in rows[[rows.columns[0], "seed", "recipe"]].drop_duplicates().itertuples(index=False):
        if made_from != recipe_of(name, seed):
            found.setdefault(name, []).append(seed)
    return found


def gap_summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds of each variant's composite by split, and the half width of the t interval on test weeks.

    Args:
        rows: of gap.csv.

    Returns:
        Columns variant, seeds, train, validation, test, test_half, departures_met (the least on test weeks),
        training_seconds.
    """
    wide = rows.pivot_table(index="variant", columns="split", values="composite")[list(SPLITS)]
    test = rows[rows.split == "test"].groupby("variant")
    wide["test_half"] = test.composite.agg(statistics.half_width)
    wide = wide.assign(departures_met=test.departures_met.min(), training_seconds=test.training_seconds.mean())
    wide.insert(0, "seeds", test.seed.nunique())
    return wide.loc[[name for name in VARIANTS if name in wide.index]].rename_axis(columns=None).reset_index()


def gap_caption(table: pd.DataFrame, edition: str, of: str = "gap") -> str:
    """The text of the figure, or of the table (``of`` gap_table), from `gap_summary` and the edition."""
    values = [
        f"{labels.t(f'gap.{row.variant}')} {labels.interval(row.test, row.test_half, 3)}" for row in table.itertuples()
    ]
    seeds = sorted(set(table.seeds))
    return labels.t(
        f"caption.{of}",
        seeds="–".join(map(str, seeds)),
        edition=labels.t(f"edition.{edition}"),
        values=labels.listing(values),
    )


def gap_figure(rows: pd.DataFrame) -> Figure:
    """Each variant's composite by split: every seed, and their mean.

    Args:
        rows: of gap.csv.

    Returns:
        The figure; its labels are in the language of `labels`.
    """
    names = [name for name in VARIANTS if name in set(rows.variant)]
    drawing, axes = plt.subplots(figsize=(page.TEXT_WIDTH, 3.2))
    for place, (split, marker, colour) in enumerate(zip(SPLITS, "os^", ("0.6", "tab:blue", "0.1"), strict=True)):
        of = rows[rows.split == split]
        for x, name in enumerate(names):
            values = of[of.variant == name].composite
            spread = x + 0.18 * (place - 1)
            label = labels.split(split) if x == 0 else None
            axes.plot([spread] * len(values), values, marker, color=colour, alpha=0.4, markersize=4)
            axes.plot(spread, values.mean(), marker, color=colour, markersize=7, label=label)
    axes.set_xticks(range(len(names)), [labels.t(f"gap.{name}") for name in names], rotation=20, ha="right")
    axes.set_ylabel(f"{labels.kpi('composite_vs_bau')} / BAU (–)")
    axes.yaxis.set_major_formatter(labels.Numbers())
    page.legend_below(drawing, axes)
    return page.laid_out(drawing)


def gradients_summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds: columns horizon, seeds, cosine_batch, cosine_mean, critic_seconds."""
    groups = rows.groupby("horizon")
    table = groups[["cosine_batch", "cosine_mean", "critic_seconds"]].mean()
    table.insert(0, "seeds", groups.seed.nunique())
    return table.reset_index()


def gradients_figure(rows: pd.DataFrame) -> Figure:
    """Cosine to the exact gradient by horizon: of one batch and of the mean, every seed and their mean."""
    table = gradients_summary(rows)
    drawing, axes = plt.subplots(figsize=(page.TEXT_WIDTH, 3.0))
    for kind, marker, colour in (("cosine_batch", "o", "tab:blue"), ("cosine_mean", "s", "0.1")):
        for x, horizon in enumerate(table.horizon):
            values = rows[rows.horizon == horizon][kind]
            axes.plot([x] * len(values), values, marker, color=colour, alpha=0.4, markersize=4)
        axes.plot(range(len(table)), table[kind], marker + "-", color=colour, label=labels.t(f"gradients.{kind}"))
    ticks = [labels.t("gradients.exact", hours=h) if h == EXACT else str(h) for h in table.horizon]
    axes.set_xticks(range(len(table)), ticks)
    axes.set_xlabel(labels.t("axis.horizon_hours"))
    axes.set_ylabel(labels.t("axis.cosine"))
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.yaxis.set_major_formatter(labels.Numbers())
    axes.legend()
    return drawing


def gradients_caption(table: pd.DataFrame, edition: str, of: str = "gradients") -> str:
    """The text of the figure, or of the table (``of`` gradients_table), from `gradients_summary` and the edition."""
    values = [
        f"K = {row.horizon}: {labels.number(row.cosine_batch)} ({labels.number(row.cosine_mean)})"
        for row in table.itertuples()
        if row.horizon != EXACT
    ]
    seeds = "–".join(str(count) for count in sorted(set(table.seeds)))
    return labels.t(
        f"caption.{of}",
        seeds=seeds,
        edition=labels.t(f"edition.{edition}"),
        hours=EXACT,
        batch=BATCH,
        values=labels.listing(values),
    )
