"""The figures of the thesis: one style, one way to save, one function per figure.

Every function takes plain data frames and returns a figure with a unit on every axis and its words from
``labels``. Colour is never the only carrier of meaning: each controller also has its own line, marker and
hatch, and its colour differs in lightness, so that the page survives a black-and-white printer.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Image, Markdown, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from thesis_lib import paths
from thesis_lib.analysis import evaluation, labels, tables
from thesis_lib.provenance import replacing, write_csv_atomic

ENGINE_BAR = 1e-6  # largest relative difference between the engines that the tests allow
SHOWN_WIDTH = 720  # pixels on a notebook's page
TEXT_WIDTH = 6.1  # inches: the text block of the thesis (A4, 27.5 mm margins)


def use_style() -> None:
    """Set seaborn and matplotlib up for the printed page: 9-10 pt text, TrueType fonts, no title clutter."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # CityLearn turns every library's INFO lines on
    sns.set_theme(
        context="paper",
        style="whitegrid",
        palette="colorblind",
        rc={
            "figure.figsize": (TEXT_WIDTH, TEXT_WIDTH * 0.55),
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "savefig.dpi": 200,
            "pdf.fonttype": 42,
            "ps.fonttype": 42,
            "font.family": "DejaVu Sans",  # ships with matplotlib: the same bytes on every machine
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.labelsize": 9,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.title_fontsize": 9,
            "legend.frameon": False,
            "axes.edgecolor": "0.3",
            "axes.linewidth": 0.7,
            "grid.color": "0.9",
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.4,
            "hatch.linewidth": 0.6,
            "axes.unicode_minus": True,
        },
    )


def save(fig: Figure, name: str, profile: str) -> Path:
    """Write ``figures/<profile>/<name>.pdf`` and ``.png`` (200 dpi); the same figure gives the same bytes.

    Each file is written beside its place and then moved over it, so a broken run never leaves half a figure.

    Returns:
        The path of the PDF.

    Raises:
        OSError: the folder cannot be written.
    """
    laid_out(fig)
    folder = paths.figures(profile)
    for suffix, metadata in (("png", None), ("pdf", {"CreationDate": None})):
        with replacing(folder / f"{name}.{suffix}") as part:
            fig.savefig(part, format=suffix, dpi=200, metadata=metadata)
    plt.close(fig)
    return folder / f"{name}.pdf"


def publish(name: str, *frames: Any, profile: str | None, save_as: str | None = None, **options: Any) -> None:
    """Draw a figure of this module, save it, show it in a notebook with its caption.

    Args:
        name: the figure's function, such as ``kpi_bars``.
        *frames, **options: its arguments.
        profile: whose folder; None to show it only.
        save_as: file name without suffix; ``name`` if not given.

    Raises:
        ValueError: no such figure, or what the figure itself raises.
        OSError: the folder cannot be written.
    """
    show(globals()[name](*frames, **options), caption(name, *frames, **options), save_as or name, profile)


def show(fig: Figure, text: str, name: str, profile: str | None, data: pd.DataFrame | None = None) -> None:
    """Save a figure (unless ``profile`` is None) and show it in a notebook with its caption.

    Args:
        fig: the figure, closed afterwards.
        text: its caption.
        name: file name without suffix.
        profile: whose folder; None to show it only.
        data: what it was drawn from, saved beside it as CSV.

    Raises:
        OSError: the folder cannot be written.
    """
    png = io.BytesIO()
    fig.savefig(png, format="png", dpi=200)
    if profile is not None:
        save(fig, name, profile)
        if data is not None:
            write_csv_atomic(paths.figures(profile) / f"{name}.csv", data)
    plt.close(fig)
    display(Image(png.getvalue(), width=SHOWN_WIDTH), Markdown(f"*{text}*"))


# --------------------------------------------------------------------------------------------- looks


@dataclass(frozen=True)
class Look:
    """How one controller is drawn everywhere: a colour of its own lightness, a line, a marker, a hatch."""

    color: str
    line: str | tuple[int, tuple[float, ...]]
    marker: str
    hatch: str


# Okabe and Ito's colours, safe for colour-blind readers, with different lines for the photocopier.
LOOKS = {
    "charge_on_arrival": Look("#8C8C8C", (0, (1, 1)), "v", "...."),
    "business_as_usual": Look("#1A1A1A", (0, (5, 2)), "s", ""),
    "rule": Look("#E69F00", (0, (6, 1.5, 1, 1.5)), "D", "////"),
    "random": Look("#BDBDBD", (0, (1, 3)), "x", ""),
    "independent_td3": Look("#882255", (0, (4, 1, 1, 1, 1, 1)), "<", "++++"),
    "independent_sac": Look("#CC79A7", (0, (2, 1)), ">", "xxxx"),
    "marlisa": Look("#D55E00", (0, (8, 2)), "P", "\\\\\\\\"),
    "maddpg": Look("#009E73", (0, (3, 1)), "^", "----"),
    "cooperative_maddpg": Look("#0072B2", "-", "o", ""),
    "mpc_forecast": Look("#999933", (0, (8, 1, 1, 1)), "p", "oo"),
    "mpc_perfect": Look("#666622", (0, (8, 1, 1, 1, 1, 1)), "h", "OO"),
    "optimum": Look("#000000", (0, (1, 1.5)), "*", ".."),
}
_SECOND = [("#56B4E9", (0, (4, 1.2)), "d", "////"), ("#004466", (0, (2, 1)), "X", "||||")]
_OTHER = Look("#555555", (0, (3, 2)), "+", "")


def look(controller: str, variant: str = "default", among: Sequence[tuple[str, str]] = ()) -> Look:
    """The look of a controller; further variants of one controller in ``among`` get a second one."""
    own = LOOKS.get(controller, _OTHER)
    variants = [v for name, v in among if name == controller]
    place = variants.index(variant) if variant in variants else 0
    return own if place == 0 else Look(*_SECOND[(place - 1) % len(_SECOND)])


def legend_below(fig: Figure, ax: Axes) -> None:
    """The axes' legend under the figure, in as many columns as the text width holds."""
    handles, names = ax.get_legend_handles_labels()
    for columns in range(min(4, len(names)), 0, -1):
        lines = -(-len(names) // columns)
        longest = [max(map(len, names[at : at + lines])) for at in range(0, len(names), lines)]
        if sum(0.073 * letters + 0.52 for letters in longest) <= TEXT_WIDTH:  # inches, at 9 pt
            break
    fig.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=columns,
        handlelength=1.9,
        handletextpad=0.5,
        columnspacing=1.2,
    )


def _two_lines(label: str) -> str:
    """A label with what stands in brackets on a second line."""
    return label.replace(" (", "\n(")


def _number_ticks(*axes: Axes) -> None:
    """Tick numbers as the language in use writes them."""
    for ax in axes:
        ax.xaxis.set_major_formatter(labels.Numbers())
        ax.yaxis.set_major_formatter(labels.Numbers())


def laid_out(fig: Figure) -> Figure:
    """The figure with its layout settled once, so that showing it changes no byte of what is saved."""
    fig.draw_without_rendering()
    fig.set_layout_engine("none")
    return fig


# ------------------------------------------------------------------------- controllers, KPI by KPI


def kpi_bars(
    kpis: pd.DataFrame,
    *,
    split: str = "test",
    engine: str = "citylearn",
    edition: str | None = None,
    names: Sequence[str] = (tables.COMPOSITE, *tables.TERMS),
) -> Figure:
    """Every controller's KPIs over BAU, one panel a KPI; each seed a point, whiskers the t interval.

    Args:
        kpis: the long table of ``kpis.csv``.

    A controller with one seed gets a bar and nothing else; one that fails the service gate is pale, marked
    with a dagger and drawn below the others.
    """
    rows = tables.select(kpis, split=split, engine=engine, edition=edition)
    passes = tables.gate(rows)["passes"]
    over = tables.relative(rows)
    pairs = sorted(tables.keys(rows), key=lambda pair: not passes.loc[pair])
    spread = tables.summary(over).set_index([*tables.KEY, "kpi"])
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    fig, axes = plt.subplots(
        lines,
        columns,
        sharey=True,
        squeeze=False,
        figsize=(TEXT_WIDTH, lines * (0.62 + 0.235 * len(pairs))),
    )
    for place, ax in enumerate(axes.flat):
        if place >= len(names):
            ax.remove()
            continue
        name = names[place]
        for y, pair in enumerate(pairs):
            if (*pair, name) not in spread.index:
                continue
            style, good = look(*pair, among=pairs), bool(passes.loc[pair])
            stats: Any = spread.loc[[(*pair, name)]].iloc[0]
            ax.barh(
                y,
                stats["mean"],
                height=0.72,
                color="0.93" if not good else "white" if pair[0] == tables.BAU else style.color,
                edgecolor="0.55" if not good else "white" if style.hatch else style.color,
                hatch=style.hatch if good else "",
                linewidth=0.7,
                zorder=2,
            )
            if stats["seeds"] > 1:
                chosen = (over["controller"] == pair[0]) & (over["variant"] == pair[1]) & (over["kpi"] == name)
                seeds = over.loc[chosen, "value"].to_numpy()
                offsets = y + np.linspace(-0.3, 0.3, len(seeds))
                ax.plot(seeds, offsets, "o", ms=2.2, mfc="white", mec="black", mew=0.5, ls="", zorder=4)
                ax.errorbar(stats["mean"], y, xerr=stats["half"], color="black", lw=1.1, capsize=2.5, zorder=5)
        ax.axvline(1, color="black", lw=0.8, ls=(0, (4, 2)), zorder=3)
        ax.set_title(labels.kpi(name), pad=3)
        ax.grid(False, axis="y")
        known = [pair for pair in pairs if (*pair, name) in spread.index]
        reach = [spread["high"].loc[(*pair, name)] for pair in known if passes.loc[pair]]
        limit = 1.12 * max([1.0, *reach])
        ax.set_xlim(0, limit)
        for pair in known:  # whoever fails the gate must not set the scale of those that serve
            mean = float(spread["mean"].loc[(*pair, name)])
            if mean > limit:
                value = f"{labels.number(mean, 2)} →"
                box = {"facecolor": "0.93", "edgecolor": "none", "pad": 1}
                ax.text(0.97 * limit, pairs.index(pair), value, ha="right", va="center", zorder=6, bbox=box)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        _number_ticks(ax)
        ax.set_yticks(
            range(len(pairs)),
            [labels.controller(*pair) + ("" if passes.loc[pair] else " †") for pair in pairs],
        )
        ax.tick_params(axis="y", length=0)
        failing = sum(not passes.loc[pair] for pair in pairs)
        if 0 < failing < len(pairs):
            ax.axhline(len(pairs) - failing - 0.5, color="0.4", lw=0.7)
        if place + columns >= len(names):
            ax.set_xlabel(f"{labels.t('axis.over_bau')} (–)")
    axes[0, 0].invert_yaxis()
    return laid_out(fig)


def composite_by_split(
    kpis: pd.DataFrame,
    *,
    engine: str = "citylearn",
    edition: str | None = None,
    splits: Sequence[str] = ("train", "validation", "test"),
) -> Figure:
    """Composite over BAU on training, validation and test weeks: what is learned and what generalises.

    Args:
        kpis: the long table; each seed is a point, the mean a larger one with its t interval over seeds.
    """
    rows = kpis[(kpis["kpi"] == tables.COMPOSITE) & kpis["split"].isin(list(splits))]
    rows = pd.concat([tables.select(rows, split=s, engine=engine, edition=edition) for s in splits])
    pairs = [pair for pair in tables.keys(rows) if pair[0] != tables.BAU]
    fig, ax = plt.subplots(figsize=(TEXT_WIDTH, 3.3))
    width = 0.8 / max(len(pairs), 1)
    for place, pair in enumerate(pairs):
        style = look(*pair, among=pairs)
        for x, split in enumerate(splits):
            chosen = (rows["controller"] == pair[0]) & (rows["variant"] == pair[1]) & (rows["split"] == split)
            values = rows.loc[chosen, "value"].to_numpy()
            at = x + (place - (len(pairs) - 1) / 2) * width
            if len(values) > 1:
                scatter = at + np.linspace(-0.3, 0.3, len(values)) * width
                ax.plot(scatter, values, ".", color=style.color, ms=4, alpha=0.7, zorder=2)
                half = tables.half_width(values)
                ax.errorbar(at, values.mean(), yerr=half, color=style.color, lw=1.2, capsize=3, zorder=3)
            ax.plot(
                at,
                values.mean(),
                marker=style.marker,
                color=style.color,
                mec="black",
                mew=0.6,
                ms=6,
                ls="",
                zorder=4,
                label=labels.controller(*pair) if x == 0 else None,
            )
    ax.axhline(1, color="black", lw=0.9, ls=(0, (5, 2)), label=labels.controller(tables.BAU))
    for x in range(len(splits) - 1):
        ax.axvline(x + 0.5, color="0.85", lw=0.8)
    ax.set_xlim(-0.5, len(splits) - 0.5)
    ax.set_xticks(range(len(splits)), [labels.split(s) for s in splits])
    ax.grid(False, axis="x")
    ax.yaxis.set_major_formatter(labels.Numbers())
    ax.set_xlabel(labels.t("axis.split"))
    ax.set_ylabel(f"{labels.kpi(tables.COMPOSITE)} / BAU (–)")
    legend_below(fig, ax)
    return laid_out(fig)


def engine_distance(kpis: pd.DataFrame, *, split: str = "test", edition: str | None = None) -> Figure:
    """How far the fast model is from CityLearn, KPI by KPI and controller by controller, on a log axis.

    Differences below 1e-12 (equal up to rounding) are drawn at 1e-12.
    """
    table = tables.engines(kpis, split=split, edition=edition)
    pairs = tables.keys(table)
    names = list(dict.fromkeys(table["kpi"]))
    fig, ax = plt.subplots(figsize=(TEXT_WIDTH, 1.0 + 0.32 * len(names)))
    for place, pair in enumerate(pairs):
        rows = table[(table["controller"] == pair[0]) & (table["variant"] == pair[1])]
        y = [names.index(n) + (place - (len(pairs) - 1) / 2) * 0.6 / max(len(pairs), 1) for n in rows["kpi"]]
        style = look(*pair, among=pairs)
        ax.plot(
            rows["distance"].clip(lower=1e-12),
            y,
            marker=style.marker,
            color=style.color,
            mec="black",
            mew=0.4,
            ms=5,
            ls="",
            label=labels.controller(*pair),
        )
    ax.set_xscale("log")
    ax.set_xlim(5e-13, max(1e-5, 3 * float(table["distance"].max())))
    ax.axvline(ENGINE_BAR, color="black", lw=0.8, ls=(0, (4, 2)))
    ax.set_yticks(range(len(names)), [labels.kpi(n) for n in names])
    ax.invert_yaxis()
    ax.set_xlabel(f"{labels.t('axis.distance')} (–)")
    ax.set_ylabel(labels.t("table.kpi"))
    legend_below(fig, ax)
    return laid_out(fig)


# ------------------------------------------------------------------------------------------ learning


def learning_curves(log: pd.DataFrame, references: Mapping[str, float] | None = None) -> Figure:
    """Training loss and validation composite against minutes and updates, one thin line a seed.

    Args:
        log: the learner's ``log.csv`` of each seed: columns seed, update, seconds, actor_loss, composite
            (NaN where one was not taken); optionally controller and variant.
        references: controller -> its composite on the validation weeks (BAU is 1), as horizontal lines.
    """
    frame = log if "controller" in log else log.assign(controller="cooperative_maddpg", variant="default")
    frame = frame.assign(minutes=frame["seconds"] / 60)
    pairs = tables.keys(frame)
    fig, axes = plt.subplots(2, 2, sharex="col", sharey="row", figsize=(TEXT_WIDTH, 4.2))
    for line, (column, label) in enumerate((("actor_loss", "axis.loss"), ("composite", "axis.validation"))):
        for side, time in enumerate(("minutes", "update")):
            ax = axes[line, side]
            for pair in pairs:
                style = look(*pair, among=pairs)
                own = frame[(frame["controller"] == pair[0]) & (frame["variant"] == pair[1])]
                for number, (_, seed) in enumerate(own.groupby("seed")):
                    seed = seed.dropna(subset=[column])
                    ax.plot(
                        seed[time],
                        seed[column],
                        color=style.color,
                        ls=style.line,
                        lw=1.0,
                        alpha=0.85,
                        marker=style.marker if column == "composite" else None,
                        ms=2.8,
                        label=labels.controller(*pair) if number == 0 else None,
                    )
            if column == "composite":
                for name, value in {tables.BAU: 1.0, **(references or {})}.items():
                    style = look(name)
                    ax.axhline(value, color=style.color, ls=style.line, lw=1.1, label=labels.controller(name))
            ax.yaxis.set_major_formatter(labels.Numbers())
            ax.xaxis.set_major_formatter(labels.Numbers())
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=time == "update"))
        axes[line, 0].set_ylabel(f"{labels.t(label)} (–)")
    axes[1, 0].set_xlabel(labels.axis("axis.minutes", "min"))
    axes[1, 1].set_xlabel(f"{labels.t('axis.updates')} (–)")
    legend_below(fig, axes[1, 0])
    return laid_out(fig)


# -------------------------------------------------------------------------------- hour by hour


def mean_day(hourly: pd.DataFrame, context: pd.DataFrame) -> Figure:
    """The average day of the district: net by controller above, load and PV, then price, below.

    Args:
        hourly: columns controller, variant, seed, row, net (kWh in the hour, signed, whole district).
        context: indexed by row; load and pv (kWh, whole district), price (EUR/kWh).

    Only rows present in ``hourly`` count. Lines are means over seeds, thin ones the seeds.
    """
    pairs = tables.keys(hourly)
    fig, axes = plt.subplots(3, 1, sharex=True, figsize=(TEXT_WIDTH, 5.0), gridspec_kw={"height_ratios": [2.6, 1.4, 1]})
    hour = hourly["row"] % 24
    days = hourly.groupby([*tables.KEY, "seed", hour.rename("hour")])["net"].mean()
    for pair in pairs:
        style = look(*pair, among=pairs)
        seeds = days.loc[pair].unstack("seed")
        if seeds.shape[1] > 1:
            axes[0].plot(seeds.index, seeds, color=style.color, lw=0.5, alpha=0.5)
        axes[0].plot(
            seeds.index,
            seeds.mean(axis=1),
            color=style.color,
            ls=style.line,
            lw=1.7,
            label=labels.controller(*pair),
        )
    rows = context.loc[context.index.isin(hourly["row"].unique())]
    around = rows.groupby(rows.index.to_numpy() % 24).mean()
    axes[0].axhline(0, color="0.3", lw=0.7)
    axes[1].plot(around.index, around["load"], color="0.15", ls="-", lw=1.2, label=labels.t("legend.load"))
    axes[1].fill_between(
        around.index,
        around["pv"],
        color="#F0E442",
        edgecolor="0.35",
        hatch="....",
        alpha=0.75,
        label=labels.t("legend.pv"),
    )
    axes[2].step(around.index, around["price"], where="mid", color="#AA3377", lw=1.3)
    axes[0].set_ylabel(labels.axis("axis.net", "kWh/h"))
    axes[1].set_ylabel(_two_lines(labels.axis("axis.energy", "kWh/h")))
    axes[2].set_ylabel(_two_lines(labels.axis("axis.price", "EUR/kWh")))
    axes[2].set_xlabel(labels.axis("axis.hour", "h"))
    axes[1].legend(loc="upper left")
    axes[2].set_xlim(0, 23)
    axes[2].set_xticks(range(0, 24, 3))
    for ax in axes:
        ax.yaxis.set_major_locator(MaxNLocator(4))
        _number_ticks(ax)
    fig.align_ylabels(axes)
    legend_below(fig, axes[0])
    return laid_out(fig)


def load_duration(hourly: pd.DataFrame, top: int = 100) -> Figure:
    """District net consumption in falling order: all hours, and the ``top`` highest ones beside it.

    Args:
        hourly: columns controller, variant, seed, row, net (kWh in the hour); the lowest seed is drawn.
    """
    pairs = tables.keys(hourly)
    fig, (whole, peak) = plt.subplots(1, 2, figsize=(TEXT_WIDTH, 3.2))
    for pair in pairs:
        style = look(*pair, among=pairs)
        falling = np.sort(_first_seed(hourly, pair)["net"].to_numpy())[::-1]
        share = np.linspace(0, 100, len(falling))
        whole.plot(share, falling, color=style.color, ls=style.line, label=labels.controller(*pair))
        count = min(top, len(falling))
        peak.plot(np.arange(1, count + 1), falling[:count], color=style.color, ls=style.line)
    whole.axhline(0, color="0.3", lw=0.7)
    whole.set_xlabel(labels.axis("axis.hours_share", "%"))
    whole.set_ylabel(labels.axis("axis.net", "kWh/h"))
    peak.set_xlabel(f"{labels.t('axis.hours_rank')} (–)")
    peak.set_ylabel(labels.axis("axis.net", "kWh/h"))
    for ax in (whole, peak):
        _number_ticks(ax)
        ax.margins(x=0.01)
    legend_below(fig, whole)
    return laid_out(fig)


def hard_week(hourly: pd.DataFrame, context: pd.DataFrame, blocks: Sequence[tuple[int, int]]) -> Figure:
    """The week with BAU's highest hour among ``blocks``: net by controller above, the price below.

    Args:
        hourly: columns controller, variant, seed, row, net (kWh in the hour); the lowest seed is drawn.
        context: indexed by row; price (EUR/kWh), load and pv (kWh).
        blocks: row ranges [start, stop), such as the test weeks.
    """
    start, stop = hardest(hourly, blocks)
    pairs = tables.keys(hourly)
    fig, (ax, below) = plt.subplots(
        2, 1, sharex=True, figsize=(TEXT_WIDTH, 4.3), gridspec_kw={"height_ratios": [2.6, 1]}
    )
    for pair in pairs:
        style = look(*pair, among=pairs)
        own = _first_seed(hourly, pair)
        own = own[(own["row"] >= start) & (own["row"] < stop)]
        ax.plot(own["row"], own["net"], color=style.color, ls=style.line, lw=1.2, label=labels.controller(*pair))
    rows = context.loc[start : stop - 1]
    below.step(rows.index, rows["price"], where="mid", color="#AA3377", lw=1.1)
    ax.axhline(0, color="0.3", lw=0.7)
    ticks = range(start, stop, 24 * max(1, (stop - start) // 24 // 7))
    below.set_xticks(list(ticks), [labels.day(row) for row in ticks])
    below.set_xlim(start, stop)
    for axis, label, unit in ((ax, "axis.net", "kWh/h"), (below, "axis.price", "EUR/kWh")):
        axis.set_ylabel(labels.axis(label, unit))
        axis.yaxis.set_major_locator(MaxNLocator(5))
        axis.yaxis.set_major_formatter(labels.Numbers())
    below.set_xlabel(f"{labels.t('axis.date')} ({labels.t('axis.day_starts')})")
    fig.align_ylabels([ax, below])
    legend_below(fig, ax)
    return laid_out(fig)


def hardest(hourly: pd.DataFrame, blocks: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The row range among ``blocks`` that holds BAU's highest hourly net (the first controller's if none).

    Raises:
        ValueError: no row of the frame lies in a block.
    """
    pairs = tables.keys(hourly)
    base = next((pair for pair in pairs if pair[0] == tables.BAU), pairs[0])
    net = _first_seed(hourly, base).set_index("row")["net"]
    peaks = {(a, b): net[(net.index >= a) & (net.index < b)].max() for a, b in blocks}
    peaks = {block: peak for block, peak in peaks.items() if not np.isnan(peak)}
    if not peaks:
        raise ValueError("the hourly frame has no row in any of the blocks: evaluate a longer run")
    return max(peaks, key=lambda block: peaks[block])


def policy_day(flows: pd.DataFrame, day: int) -> Figure:
    """A day in the life of a policy: the district's energies, states of charge, price and carbon.

    Args:
        flows: indexed by row; load, pv, battery, chargers, appliances, net (kWh in the hour, whole
            district; battery and chargers signed, + is drawn from the grid), battery_soc, car_soc (mean,
            0 to 1), price (EUR/kWh), carbon (kg/kWh).
        day: row // 24.
    """
    rows = flows.loc[day * 24 : day * 24 + 23]
    hour = rows.index % 24
    fig, axes = plt.subplots(3, 1, sharex=True, figsize=(TEXT_WIDTH, 5.6), gridspec_kw={"height_ratios": [2.6, 1.3, 1]})
    parts = (
        ("load", "0.75", ""),
        ("chargers", "#0072B2", "////"),
        ("battery", "#E69F00", "\\\\\\\\"),
        ("appliances", "#CC79A7", "xxxx"),
        ("pv", "#F0E442", "...."),
    )
    above, under = np.zeros(len(rows)), np.zeros(len(rows))
    for name, color, hatch in parts:
        values = rows[name].to_numpy() * (-1 if name == "pv" else 1)
        if not np.abs(values).sum():
            continue
        bottom = np.where(values >= 0, above, under)
        axes[0].bar(
            hour,
            values,
            bottom=bottom,
            width=0.9,
            color=color,
            hatch=hatch,
            edgecolor="0.3",
            linewidth=0.4,
            label=labels.t(f"legend.{name}"),
        )
        above, under = above + values.clip(min=0), under + values.clip(max=0)
    axes[0].use_sticky_edges = False  # or a bar's end would touch the frame
    axes[0].plot(hour, rows["net"], color="black", marker="o", ms=3, lw=1.4, label=labels.t("legend.net"))
    axes[0].axhline(0, color="0.2", lw=0.7)
    axes[1].plot(hour, 100 * rows["battery_soc"], color="#E69F00", marker="s", ms=3, label=labels.t("legend.battery"))
    axes[1].plot(
        hour,
        100 * rows["car_soc"],
        color="#0072B2",
        ls=(0, (5, 2)),
        marker="o",
        ms=3,
        label=labels.t("legend.car_soc"),
    )
    axes[1].set_ylim(0, 139)
    axes[1].legend(loc="upper center", ncols=2)
    axes[2].step(hour, rows["price"], where="mid", color="#AA3377", label=labels.t("legend.price"))
    carbon = axes[2].twinx()
    carbon.plot(hour, rows["carbon"], color="0.35", ls=(0, (2, 1.5)), label=labels.t("legend.carbon"))
    carbon.grid(False)
    both = [*axes[2].get_legend_handles_labels()[0], *carbon.get_legend_handles_labels()[0]]
    axes[2].legend(handles=both, loc="upper center", ncols=2)
    axes[0].set_ylabel(labels.axis("axis.energy", "kWh/h"))
    axes[1].set_ylabel(labels.axis("axis.soc_short", "%"))
    axes[2].set_ylabel(_two_lines(labels.axis("axis.price", "EUR/kWh")))
    carbon.set_ylabel(_two_lines(labels.axis("axis.carbon_short", "kg/kWh")))
    axes[2].set_xlabel(labels.axis("axis.hour", "h"))
    axes[2].set_xlim(-0.6, 23.6)
    axes[2].set_xticks(range(0, 24, 3))
    for ax in (axes[2], carbon):  # room for the legend
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.35 * (high - low))
    for ax in [*axes, carbon]:
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.yaxis.set_major_formatter(labels.Numbers())
    axes[1].set_yticks([0, 50, 100])
    fig.align_ylabels(axes)
    legend_below(fig, axes[0])
    return laid_out(fig)


def price_response(hourly: pd.DataFrame, context: pd.DataFrame, bins: int = 10) -> Figure:
    """Mean district net in each decile of price and of carbon intensity: who buys when it is cheap, clean.

    Args:
        hourly: columns controller, variant, seed, row, net (kWh in the hour).
        context: indexed by row; price (EUR/kWh), carbon (kg/kWh).
        bins: how many quantiles.
    """
    pairs = tables.keys(hourly)
    fig, axes = plt.subplots(1, 2, sharey=True, figsize=(TEXT_WIDTH, 3.2))
    for ax, column, unit in ((axes[0], "price", "EUR/kWh"), (axes[1], "carbon", "kg/kWh")):
        for pair in pairs:
            style = look(*pair, among=pairs)
            middle, net = _response(hourly, context, pair, column, bins)
            ax.plot(
                middle,
                net,
                color=style.color,
                ls=style.line,
                marker=style.marker,
                ms=4,
                mec="black",
                mew=0.4,
                label=labels.controller(*pair),
            )
        ax.set_xlabel(labels.axis(f"axis.{column}", unit))
        ax.xaxis.set_major_locator(MaxNLocator(4))
        _number_ticks(ax)
    axes[0].set_ylabel(labels.axis("axis.net", "kWh/h"))
    legend_below(fig, axes[0])
    return laid_out(fig)


def _response(
    hourly: pd.DataFrame, context: pd.DataFrame, pair: tuple[str, str], column: str, bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the column and of the net in each quantile of the column, over all seeds."""
    own = hourly[(hourly["controller"] == pair[0]) & (hourly["variant"] == pair[1])]
    series = context[column].reindex(own["row"]).to_numpy()
    order = pd.Series(series).rank(method="first").to_numpy()
    part = np.minimum((order - 1) * bins // len(order), bins - 1).astype(int)
    means = pd.DataFrame({"x": series, "net": own["net"].to_numpy(), "part": part}).groupby("part").mean()
    return means["x"].to_numpy(), means["net"].to_numpy()


# ------------------------------------------------------------------------------- cars and homes


def departure_margins(departures: pd.DataFrame, tolerance: float = 0.05) -> Figure:
    """SOC at departure minus the required one, over feasible departures, as a share of them per 2.5 points.

    Args:
        departures: columns controller, variant, seed, soc, required (0 to 1), feasible (bool).
        tolerance: how far below the requirement still counts as met.
    """
    rows = departures[departures["feasible"].astype(bool)]
    pairs = tables.keys(rows)
    margin = 100 * (rows["soc"] - rows["required"])
    low = min(-20.0, 5 * np.floor(margin.min() / 5)) if len(margin) else -20.0
    high = max(20.0, 5 * np.ceil(margin.max() / 5)) if len(margin) else 20.0
    edges = np.arange(low, high + 2.6, 2.5) - 1e-4  # a margin of exactly 0 or of the tolerance falls right of its line
    fig, axes = plt.subplots(
        len(pairs), 1, sharex=True, sharey=True, squeeze=False, figsize=(TEXT_WIDTH, 0.75 + 0.92 * len(pairs))
    )
    for ax, pair in zip(axes[:, 0], pairs, strict=True):
        style = look(*pair, among=pairs)
        own = margin[(rows["controller"] == pair[0]) & (rows["variant"] == pair[1])]
        ax.hist(
            own,
            bins=list(edges),
            weights=np.full(len(own), 100 / max(len(own), 1)),
            color=style.color,
            hatch=style.hatch,
            edgecolor="white" if style.hatch else style.color,
            linewidth=0.4,
        )
        ax.axvline(-100 * tolerance, color="#AA3377", lw=1.1, ls=(0, (4, 2)))
        ax.axvline(0, color="0.2", lw=0.8)
        missed = int((own < -100 * tolerance - 1e-9).sum())
        ax.set_title(_share_missed(pair, missed, len(own)), loc="left", fontsize=9, pad=2)
        ax.yaxis.set_major_locator(MaxNLocator(3))
        _number_ticks(ax)
    axes[-1, 0].set_xlabel(labels.axis("axis.margin", labels.t("unit.points")))
    fig.supylabel(labels.axis("axis.departures", "%"), fontsize=9)
    return laid_out(fig)


def _share_missed(pair: tuple[str, str], missed: int, departures: int) -> str:
    counts = {"missed": labels.number(missed, 0), "all": labels.number(departures, 0)}
    return f"{labels.controller(*pair)}: {labels.t('legend.missed', **counts)}"


def home_heatmap(homes: pd.DataFrame, kpi: str = "cost") -> Figure:
    """Each home's change of a KPI against BAU, in per cent, one row a controller, one column a home.

    Args:
        homes: columns controller, variant, home (name), value (in the KPI's unit, over the same rows for
            all); a controller's seeds are averaged. Business as usual must be among them.
    """
    change = home_changes(homes)
    fig, ax = plt.subplots(figsize=(TEXT_WIDTH, 1.45 + 0.36 * len(change)))
    reach = max(5.0, float(np.nanpercentile(np.abs(change.to_numpy()), 95)))
    text = change.map(lambda value: labels.number(value, 0))
    sns.heatmap(
        change,
        annot=text,
        fmt="",
        annot_kws={"fontsize": 8},
        cmap="RdBu_r",
        center=0,
        vmin=-reach,
        vmax=reach,
        linewidths=0.6,
        linecolor="white",
        ax=ax,
        cbar_kws={
            "label": f"{labels.kpi(kpi)}: {labels.t('axis.change')} (%)",
            "format": labels.Numbers(),
            "location": "bottom",
            "shrink": 0.5,
            "aspect": 30,
            "pad": 0.02,
        },
    )
    ax.set_xlabel(f"{labels.t('axis.home')} ({labels.t('unit.number')})")
    ax.xaxis.set_label_position("top")
    ax.xaxis.tick_top()
    ax.set_xticks(np.arange(change.shape[1]) + 0.5, [_home_number(name) for name in change.columns])
    ax.set_yticks(
        np.arange(len(change)) + 0.5,
        [_two_lines(labels.controller(*pair)) for pair in change.index],
        rotation=0,
    )
    ax.tick_params(length=0)
    ax.set_ylabel("")
    return laid_out(fig)


def home_changes(homes: pd.DataFrame) -> pd.DataFrame:
    """Change against BAU in per cent: rows (controller, variant) without BAU, columns homes in order.

    Raises:
        ValueError: business as usual is not in the frame.
    """
    value = homes.groupby([*tables.KEY, "home"], sort=False)["value"].mean().unstack("home")
    if tables.BAU not in value.index.get_level_values("controller"):
        raise ValueError(f"no rows of {tables.BAU}: the change of each home is against its figures")
    base = value.xs(tables.BAU, level="controller").iloc[0]
    pairs = [pair for pair in tables.keys(homes) if pair[0] != tables.BAU]
    change = 100 * (value.loc[pairs] / base - 1)
    return change[list(dict.fromkeys(homes["home"]))]


def _home_number(name: str) -> str:
    return "".join(letter for letter in str(name) if letter.isdigit()) or str(name)


def _first_seed(hourly: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    own = hourly[(hourly["controller"] == pair[0]) & (hourly["variant"] == pair[1])]
    return own[own["seed"] == own["seed"].min()].sort_values("row")


# ------------------------------------------------------------------------------------------ captions


def caption(name: str, *frames: Any, **options: Any) -> str:
    """The caption of figure ``name``, its numbers computed from the same arguments the figure was given.

    Raises:
        ValueError: no figure of that name has a caption.
    """
    if name not in CAPTIONS:
        raise ValueError(f"no caption for {name!r}: there are {', '.join(sorted(CAPTIONS))}")
    return CAPTIONS[name](*frames, **options)


def _caption_kpi_bars(
    kpis: pd.DataFrame,
    *,
    split: str = "test",
    engine: str = "citylearn",
    edition: str | None = None,
    names: Sequence[str] = (),
) -> str:
    rows = tables.select(kpis, split=split, engine=engine, edition=edition)
    passes = tables.gate(rows)["passes"]
    composite = tables.summary(rows[rows["kpi"] == tables.COMPOSITE]).set_index(tables.KEY)
    serving = composite[passes.reindex(composite.index).to_numpy(dtype=bool)]
    best = ""
    if len(serving):
        first: Any = serving.reset_index().sort_values("mean").iloc[0]
        pair = (first["controller"], first["variant"])
        value = labels.interval(first["mean"], first["half"], 3)
        best = labels.t("caption.best", controller=labels.controller(*pair), value=value)
    spread = composite[composite["seeds"] > 1]["seeds"]
    seeds = sorted({int(count) for count in spread})
    failing = [labels.controller(*pair) for pair in passes.index[~passes]]
    return labels.t(
        "caption.kpi_bars",
        split=labels.t(f"weeks.{split}"),
        engine=labels.t(f"engine.{engine}"),
        edition=labels.t(f"edition.{rows['edition'].iloc[0]}"),
        best=best,
        spread=labels.t("caption.spread", seeds=labels.listing([str(n) for n in seeds])) if seeds else "",
        failing=labels.t("caption.failing", gate=labels.number(evaluation.GATE), controllers=labels.listing(failing))
        if failing
        else "",
    )


def _caption_composite_by_split(
    kpis: pd.DataFrame,
    *,
    engine: str = "citylearn",
    edition: str | None = None,
    splits: Sequence[str] = ("train", "validation", "test"),
) -> str:
    rows = tables.select(kpis[kpis["kpi"] == tables.COMPOSITE], engine=engine, edition=edition, split=splits[0])
    where = (kpis["kpi"] == tables.COMPOSITE) & (kpis["engine"] == engine)
    means = kpis[where & kpis["edition"].isin(rows["edition"])].groupby([*tables.KEY, "split"])["value"].mean()
    parts = []
    for pair in tables.keys(rows):
        if pair[0] == tables.BAU:
            continue
        own = means.loc[pair]
        first, last = (labels.number(own.get(s, float("nan")), 3) for s in (splits[0], splits[-1]))
        parts.append(f"{labels.controller(*pair)} {first} → {last}")
    return labels.t(
        "caption.composite_by_split",
        engine=labels.t(f"engine.{engine}"),
        edition=labels.t(f"edition.{rows['edition'].iloc[0]}"),
        first=labels.t(f"weeks.{splits[0]}"),
        last=labels.t(f"weeks.{splits[-1]}"),
        gaps=labels.listing(parts),
    )


def _caption_engine_distance(kpis: pd.DataFrame, *, split: str = "test", edition: str | None = None) -> str:
    table = tables.engines(kpis, split=split, edition=edition)
    worst: Any = table.sort_values("distance").iloc[-1]
    return labels.t(
        "caption.engine_distance",
        split=labels.t(f"weeks.{split}"),
        worst=labels.scientific(worst["distance"]),
        bar=labels.scientific(ENGINE_BAR),
        kpi=labels.kpi(worst["kpi"]),
        controller=labels.controller(worst["controller"], worst["variant"]),
    )


def _caption_learning_curves(log: pd.DataFrame, references: Mapping[str, float] | None = None) -> str:
    known = {tables.BAU: 1.0, **(references or {})}
    best: Any = log.sort_values("composite").iloc[0]
    return labels.t(
        "caption.learning_curves",
        seeds=log["seed"].nunique(),
        best=labels.number(best["composite"], 3),
        minutes=labels.number(best["seconds"] / 60, 1),
        updates=labels.number(best["update"], 0),
        references=labels.listing([f"{labels.controller(n)} {labels.number(v, 3)}" for n, v in known.items()]),
    )


def _peaks(nets: Mapping[tuple[str, str], float]) -> str:
    texts = [
        labels.t("caption.peak", controller=labels.controller(*pair), peak=labels.number(peak, 1))
        for pair, peak in nets.items()
    ]
    return labels.listing(texts)


def _caption_mean_day(hourly: pd.DataFrame, context: pd.DataFrame) -> str:
    around = hourly.groupby([*tables.KEY, (hourly["row"] % 24).rename("hour")])["net"].mean()
    peaks = {pair: float(around.loc[pair].max()) for pair in tables.keys(hourly)}
    days = (hourly["row"] // 24).nunique()
    return labels.t("caption.mean_day", days=labels.number(days, 0), peaks=_peaks(peaks))


def _caption_load_duration(hourly: pd.DataFrame, top: int = 100) -> str:
    peaks = {pair: float(_first_seed(hourly, pair)["net"].max()) for pair in tables.keys(hourly)}
    hours = hourly["row"].nunique()
    return labels.t(
        "caption.load_duration",
        hours=labels.number(hours, 0),
        top=labels.number(min(top, hours), 0),
        peaks=_peaks(peaks),
    )


def _caption_hard_week(hourly: pd.DataFrame, context: pd.DataFrame, blocks: Sequence[tuple[int, int]]) -> str:
    start, stop = hardest(hourly, blocks)
    week = hourly[(hourly["row"] >= start) & (hourly["row"] < stop)]
    peaks = {pair: float(_first_seed(week, pair)["net"].max()) for pair in tables.keys(week)}
    return labels.t("caption.hard_week", start=labels.day(start), end=labels.day(stop - 1), peaks=_peaks(peaks))


def _caption_policy_day(flows: pd.DataFrame, day: int) -> str:
    rows = flows.loc[day * 24 : day * 24 + 23]
    return labels.t(
        "caption.policy_day",
        date=labels.day(day * 24),
        peak=labels.number(rows["net"].max(), 1),
        hour=int(rows["net"].to_numpy().argmax()),
        charged=labels.number(rows["battery"].clip(lower=0).sum(), 1),
        cars=labels.number(rows["chargers"].clip(lower=0).sum(), 1),
    )


def _caption_price_response(hourly: pd.DataFrame, context: pd.DataFrame, bins: int = 10) -> str:
    texts = []
    for pair in tables.keys(hourly):
        _, net = _response(hourly, context, pair, "price", bins)
        ends = {"low": labels.number(net[0], 1), "high": labels.number(net[-1], 1)}
        texts.append(labels.t("caption.response", controller=labels.controller(*pair), **ends))
    return labels.t("caption.price_response", price=labels.listing(texts))


def _caption_departure_margins(departures: pd.DataFrame, tolerance: float = 0.05) -> str:
    rows = departures[departures["feasible"].astype(bool)]
    short = rows["soc"] - rows["required"] < -tolerance - 1e-11
    texts = []
    for pair in tables.keys(rows):
        own = short[(rows["controller"] == pair[0]) & (rows["variant"] == pair[1])]
        numbers = {"missed": labels.number(own.sum(), 0), "departures": labels.number(len(own), 0)}
        texts.append(labels.t("caption.missed", controller=labels.controller(*pair), **numbers))
    points = labels.number(100 * tolerance, 0)
    return labels.t("caption.departure_margins", tolerance=points, missed=labels.listing(texts))


def _caption_home_heatmap(homes: pd.DataFrame, kpi: str = "cost") -> str:
    texts = []
    for pair, row in home_changes(homes).iterrows():
        low, high = str(row.idxmin()), str(row.idxmax())
        texts.append(
            labels.t(
                "caption.home_spread",
                controller=labels.controller(*pair),
                low=labels.percent(row[low] / 100, 0, sign=True),
                low_home=_home_number(low),
                high=labels.percent(row[high] / 100, 0, sign=True),
                high_home=_home_number(high),
            )
        )
    return labels.t("caption.home_heatmap", kpi=labels.kpi(kpi).lower(), spread=labels.listing(texts))


CAPTIONS: dict[str, Callable[..., str]] = {
    "kpi_bars": _caption_kpi_bars,
    "composite_by_split": _caption_composite_by_split,
    "engine_distance": _caption_engine_distance,
    "learning_curves": _caption_learning_curves,
    "mean_day": _caption_mean_day,
    "load_duration": _caption_load_duration,
    "hard_week": _caption_hard_week,
    "policy_day": _caption_policy_day,
    "price_response": _caption_price_response,
    "departure_margins": _caption_departure_margins,
    "home_heatmap": _caption_home_heatmap,
}
