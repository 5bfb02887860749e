"""The figures of hours, cars and homes: what a controller does with the day, the peak, the price and its people.

Each takes plain data frames and has its caption and its data beside it; ``figures.FIGURES`` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from thesis_lib.analysis import comparison, labels, tables
from thesis_lib.analysis.page import QUANTITIES, TEXT_WIDTH, Look, laid_out, legend_below, look, number_ticks, two_lines
from thesis_lib.community.splits import YEAR_ROWS

TOP = 100  # highest hours that load_duration draws apart
DECILES = 10  # of price and carbon intensity

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
    for place, pair in enumerate(pairs):
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
            **_marks(style, place, 4),
            label=labels.controller(*pair),
        )
    rows = context.loc[context.index.isin(hourly["row"].unique())]
    around = rows.groupby(rows.index.to_numpy() % 24).mean()
    axes[0].axhline(0, color="0.3", lw=0.7)
    axes[1].plot(around.index, around["load"], color=QUANTITIES["load"], lw=1.7, label=labels.t("legend.load"))
    axes[1].fill_between(
        around.index,
        around["pv"],
        color=QUANTITIES["pv"],
        edgecolor="0.35",
        hatch="....",
        alpha=0.5,
        label=labels.t("legend.pv"),
    )
    axes[2].step(around.index, around["price"], where="mid", color=QUANTITIES["price"], lw=1.3)
    axes[0].set_ylabel(labels.axis("axis.net", "kW"))
    axes[1].set_ylabel(two_lines(labels.axis("axis.power", "kW")))
    axes[2].set_ylabel(two_lines(labels.axis("axis.price", "EUR/kWh")))
    axes[2].set_xlabel(labels.axis("axis.hour", "h"))
    axes[1].legend(loc="upper left")
    axes[2].set_xlim(0, 23)
    axes[2].set_xticks(range(0, 24, 3))
    for ax in axes:
        ax.yaxis.set_major_locator(MaxNLocator(4))
        number_ticks(ax)
    fig.align_ylabels(axes)
    legend_below(fig, axes[0])
    return laid_out(fig)


def _caption_mean_day(hourly: pd.DataFrame, context: pd.DataFrame) -> str:
    around = hourly.groupby([*tables.KEY, (hourly["row"] % 24).rename("hour")])["net"].mean()
    peaks = {pair: float(around.loc[pair].max()) for pair in tables.keys(hourly)}
    days = (hourly["row"] // 24).nunique()
    seeds = labels.number(hourly["seed"].nunique(), 0)
    return labels.t("caption.mean_day", days=labels.number(days, 0), seeds=seeds, peaks=_peaks(peaks))


def _data_mean_day(hourly: pd.DataFrame, context: pd.DataFrame) -> pd.DataFrame:
    hours = hourly.assign(hour=hourly["row"] % 24)
    return hours.groupby([*tables.KEY, "seed", "hour"], sort=False)["net"].mean().round(4).reset_index()


def load_duration(hourly: pd.DataFrame) -> Figure:
    """District net consumption in falling order: all hours, and the `TOP` highest ones beside it.

    Args:
        hourly: columns controller, variant, seed, row, net (kWh in the hour); the lowest seed is drawn.
    """
    pairs = tables.keys(hourly)
    fig, (whole, peak) = plt.subplots(1, 2, figsize=(TEXT_WIDTH, 3.2))
    for place, pair in enumerate(pairs):
        style = look(*pair, among=pairs)
        falling = np.sort(_first_seed(hourly, pair)["net"].to_numpy())[::-1]
        share = np.linspace(0, 100, len(falling))
        marks = _marks(style, place, max(1, len(falling) // 6))
        whole.plot(share, falling, color=style.color, ls=style.line, **marks, label=labels.controller(*pair))
        count = min(TOP, len(falling))
        marks = _marks(style, place, max(1, count // 6))
        peak.plot(np.arange(1, count + 1), falling[:count], color=style.color, ls=style.line, **marks)
    whole.axhline(0, color="0.3", lw=0.7)
    whole.set_xlabel(labels.axis("axis.hours_share", "%"))
    whole.set_ylabel(labels.axis("axis.net", "kW"))
    peak.set_xlabel(f"{labels.t('axis.hours_rank')} (–)")
    peak.set_ylabel(labels.axis("axis.net", "kW"))
    for ax in (whole, peak):
        number_ticks(ax)
        ax.margins(x=0.01)
    legend_below(fig, whole)
    return laid_out(fig)


def _caption_load_duration(hourly: pd.DataFrame) -> str:
    peaks = {pair: float(_first_seed(hourly, pair)["net"].max()) for pair in tables.keys(hourly)}
    hours = hourly["row"].nunique()
    return labels.t(
        "caption.load_duration",
        hours=labels.number(hours, 0),
        top=labels.number(min(TOP, hours), 0),
        seed=hourly["seed"].min(),
        last=labels.t("caption.last_row") if hourly["row"].max() == YEAR_ROWS - 2 else "",
        peaks=_peaks(peaks),
    )


def _data_load_duration(hourly: pd.DataFrame) -> pd.DataFrame:
    falling = {
        "/".join(pair): np.sort(_first_seed(hourly, pair)["net"].to_numpy())[::-1].round(2)
        for pair in tables.keys(hourly)
    }
    frame = pd.DataFrame({name: pd.Series(values) for name, values in falling.items()})
    return frame.rename_axis("rank").reset_index()


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
    for place, pair in enumerate(pairs):
        style = look(*pair, among=pairs)
        own = _first_seed(hourly, pair)
        own = own[(own["row"] >= start) & (own["row"] < stop)]
        marks = _marks(style, place, 12)
        ax.plot(
            own["row"], own["net"], color=style.color, ls=style.line, lw=1.2, **marks, label=labels.controller(*pair)
        )
    rows = context.loc[start : stop - 1]
    below.step(rows.index, rows["price"], where="mid", color=QUANTITIES["price"], lw=1.1)
    ax.axhline(0, color="0.3", lw=0.7)
    ticks = range(start, stop, 24 * max(1, (stop - start) // 24 // 7))
    below.set_xticks(list(ticks), [labels.day(row) for row in ticks])
    below.set_xlim(start, stop)
    for axis, label, unit in ((ax, "axis.net", "kW"), (below, "axis.price", "EUR/kWh")):
        axis.set_ylabel(labels.axis(label, unit))
        axis.yaxis.set_major_locator(MaxNLocator(5))
        axis.yaxis.set_major_formatter(labels.Numbers())
    below.set_xlabel(f"{labels.t('axis.date')} ({labels.t('axis.day_starts')})")
    fig.align_ylabels([ax, below])
    legend_below(fig, ax)
    return laid_out(fig)


def _caption_hard_week(hourly: pd.DataFrame, context: pd.DataFrame, blocks: Sequence[tuple[int, int]]) -> str:
    start, stop = hardest(hourly, blocks)
    week = hourly[(hourly["row"] >= start) & (hourly["row"] < stop)]
    peaks = {pair: float(_first_seed(week, pair)["net"].max()) for pair in tables.keys(week)}
    dates = {"start": labels.date(start), "end": labels.date(stop - 1)}
    return labels.t("caption.hard_week", seed=hourly["seed"].min(), peaks=_peaks(peaks), **dates)


def _data_hard_week(hourly: pd.DataFrame, context: pd.DataFrame, blocks: Sequence[tuple[int, int]]) -> pd.DataFrame:
    start, stop = hardest(hourly, blocks)
    seeds = pd.concat([_first_seed(hourly, pair) for pair in tables.keys(hourly)], ignore_index=True)
    return seeds[(seeds["row"] >= start) & (seeds["row"] < stop)]


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


def policy_day(flows: pd.DataFrame, day: int, controller: tuple[str, str]) -> Figure:
    """A day in the life of a policy: the district's mean power in each hour, states of charge, price and carbon.

    Args:
        flows: indexed by row; load, pv, battery, chargers, appliances, net (kWh in the hour, whole
            district; battery and chargers signed, + is drawn from the grid), battery_soc, car_soc (mean,
            0 to 1), price (EUR/kWh), carbon (kg/kWh).
        day: row // 24.
        controller: whose day it is, with its variant (for the caption).
    """
    rows = flows.loc[day * 24 : day * 24 + 23]
    hour = rows.index % 24
    fig, axes = plt.subplots(3, 1, sharex=True, figsize=(TEXT_WIDTH, 5.6), gridspec_kw={"height_ratios": [2.6, 1.3, 1]})
    parts = {"load": "", "chargers": "////", "battery": "\\\\\\\\", "appliances": "xxxx", "pv": "...."}
    above, under = np.zeros(len(rows)), np.zeros(len(rows))
    for name, hatch in parts.items():
        values = rows[name].to_numpy() * (-1 if name == "pv" else 1)
        if not np.abs(values).sum():
            continue
        bottom = np.where(values >= 0, above, under)
        axes[0].bar(
            hour,
            values,
            bottom=bottom,
            width=0.9,
            color=QUANTITIES[name],
            hatch=hatch,
            edgecolor="0.3",
            linewidth=0.4,
            label=labels.t(f"legend.{name}"),
        )
        above, under = above + values.clip(min=0), under + values.clip(max=0)
    axes[0].use_sticky_edges = False  # or a bar's end would touch the frame
    axes[0].plot(hour, rows["net"], color=QUANTITIES["net"], marker="o", ms=3, lw=1.4, label=labels.t("legend.net"))
    axes[0].axhline(0, color="0.2", lw=0.7)
    axes[1].plot(
        hour,
        100 * rows["battery_soc"],
        color=QUANTITIES["battery"],
        marker="s",
        ms=3,
        label=labels.t("legend.battery"),
    )
    axes[1].plot(
        hour,
        100 * rows["car_soc"],
        color=QUANTITIES["chargers"],
        ls=(0, (5, 2)),
        marker="o",
        ms=3,
        label=labels.t("legend.car_soc"),
    )
    axes[1].set_ylim(0, 139)
    axes[1].legend(loc="upper center", ncols=2)
    axes[2].step(hour, rows["price"], where="mid", color=QUANTITIES["price"], label=labels.t("legend.price"))
    carbon = axes[2].twinx()
    carbon.plot(hour, rows["carbon"], color=QUANTITIES["carbon"], ls=(0, (2, 1.5)), label=labels.t("legend.carbon"))
    carbon.grid(False)
    both = [*axes[2].get_legend_handles_labels()[0], *carbon.get_legend_handles_labels()[0]]
    axes[2].legend(handles=both, loc="upper center", ncols=2)
    axes[0].set_ylabel(labels.axis("axis.power", "kW"))
    axes[1].set_ylabel(labels.axis("axis.soc_short", "%"))
    axes[2].set_ylabel(two_lines(labels.axis("axis.price", "EUR/kWh")))
    carbon.set_ylabel(two_lines(labels.axis("axis.carbon_short", "kg/kWh")))
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


def _caption_policy_day(flows: pd.DataFrame, day: int, controller: tuple[str, str]) -> str:
    rows = flows.loc[day * 24 : day * 24 + 23]
    hour = int(rows["net"].to_numpy().argmax())
    return labels.t(
        "caption.policy_day",
        controller=labels.controller(*controller),
        date=labels.date(day * 24),
        peak=labels.number(rows["net"].max(), 1),
        hour=hour,
        appliance=labels.number(rows["appliances"].iloc[hour], 1),
        charged=labels.number(rows["battery_charged"].sum(), 1),
        cars=labels.number(rows["cars_charged"].sum(), 1),
    )


def _data_policy_day(flows: pd.DataFrame, day: int, controller: tuple[str, str]) -> pd.DataFrame:
    own = ["battery", "chargers", "battery_charged", "cars_charged", "appliances", "net", "battery_soc", "car_soc"]
    # the rest is the data set's own
    return flows.loc[day * 24 : day * 24 + 23, own].round(4).reset_index()


def price_response(hourly: pd.DataFrame, context: pd.DataFrame) -> Figure:
    """Mean district net in each decile of price and of carbon intensity: who buys when it is cheap, clean.

    Args:
        hourly: columns controller, variant, seed, row, net (kWh in the hour).
        context: indexed by row; price (EUR/kWh), carbon (kg/kWh).
    """
    pairs = tables.keys(hourly)
    fig, axes = plt.subplots(1, 2, sharey=True, figsize=(TEXT_WIDTH, 3.2))
    for ax, column, unit in ((axes[0], "price", "EUR/kWh"), (axes[1], "carbon", "kg/kWh")):
        for pair in pairs:
            style = look(*pair, among=pairs)
            middle, net = _response(hourly, context, pair, column)
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
        number_ticks(ax)
    axes[0].set_ylabel(labels.axis("axis.net", "kW"))
    legend_below(fig, axes[0])
    return laid_out(fig)


def _caption_price_response(hourly: pd.DataFrame, context: pd.DataFrame) -> str:
    texts = []
    for pair in tables.keys(hourly):
        _, net = _response(hourly, context, pair, "price")
        ends = {"low": labels.number(net[0], 1), "high": labels.number(net[-1], 1)}
        texts.append(labels.t("caption.response", controller=labels.controller(*pair), **ends))
    return labels.t(
        "caption.price_response", seeds=labels.number(hourly["seed"].nunique(), 0), price=labels.listing(texts)
    )


def _data_price_response(hourly: pd.DataFrame, context: pd.DataFrame) -> pd.DataFrame:
    lines = []
    for pair in tables.keys(hourly):
        for column in ("price", "carbon"):
            middle, net = _response(hourly, context, pair, column)
            line = pd.DataFrame({"part": range(1, len(net) + 1), "middle": middle, "net": net})
            lines.append(line.assign(**dict(zip(tables.KEY, pair, strict=True)), column=column))
    return pd.concat(lines, ignore_index=True)[[*tables.KEY, "column", "part", "middle", "net"]]


def _response(
    hourly: pd.DataFrame, context: pd.DataFrame, pair: tuple[str, str], column: str
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the column and of the net in each quantile of the column, over all seeds."""
    own = hourly[(hourly["controller"] == pair[0]) & (hourly["variant"] == pair[1])]
    series = context[column].reindex(own["row"]).to_numpy()
    order = pd.Series(series).rank(method="first").to_numpy()
    part = np.minimum((order - 1) * DECILES // len(order), DECILES - 1).astype(int)
    means = pd.DataFrame({"x": series, "net": own["net"].to_numpy(), "part": part}).groupby("part").mean()
    return means["x"].to_numpy(), means["net"].to_numpy()


def ramping(hourly: pd.DataFrame) -> Figure:
    """How often the district's net consumption steps up, or down, by more than so much from one hour to the next.

    Args:
        hourly: columns controller, variant, seed, row, net (kWh in the hour); all seeds count. Steps are taken between
            rows that follow each other.
    """
    pairs = tables.keys(hourly)
    fig, axes = plt.subplots(1, 2, sharey=True, figsize=(TEXT_WIDTH, 3.2))
    for ax, sign, label in ((axes[0], 1, "axis.step_up"), (axes[1], -1, "axis.step_down")):
        for place, pair in enumerate(pairs):
            style = look(*pair, among=pairs)
            sizes, share = _exceedance(sign * _steps(hourly, pair))
            ax.plot(
                sizes,
                100 * share,
                color=style.color,
                ls=style.line,
                **_marks(style, place, max(1, len(sizes) // 6)),
                label=labels.controller(*pair),
            )
        ax.set_yscale("log")
        ax.set_xlim(left=0)
        ax.set_xlabel(labels.axis(label, "kW"))
        ax.xaxis.set_major_locator(MaxNLocator(5))
        number_ticks(ax)
        ax.yaxis.set_major_formatter(FuncFormatter(labels.Numbers()))  # each tick with its own decimals
        ax.yaxis.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel(labels.axis("axis.hours_above", "%"))
    legend_below(fig, axes[0])
    return laid_out(fig)


def _steps(hourly: pd.DataFrame, pair: tuple[str, str]) -> np.ndarray:
    """Changes of the net between hours that follow each other, all seeds."""
    own = hourly[(hourly["controller"] == pair[0]) & (hourly["variant"] == pair[1])].sort_values(["seed", "row"])
    following = own["seed"].eq(own["seed"].shift()) & own["row"].eq(own["row"].shift() + 1)
    return own["net"].diff()[following].to_numpy()


def _exceedance(steps: np.ndarray, points: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Sizes from 0 to the largest step, and the share of all steps above each."""
    sizes = np.linspace(0, max(float(steps.max(initial=0.0)), 1e-9), points + 1)[:-1]
    return sizes, (steps[:, None] > sizes).mean(axis=0)


def _caption_ramping(hourly: pd.DataFrame) -> str:
    texts = []
    for pair in tables.keys(hourly):
        up = np.clip(_steps(hourly, pair), 0, None)
        numbers = {"mean": labels.number(up.mean(), 2), "rare": labels.number(float(np.quantile(up, 0.99)), 1)}
        texts.append(labels.t("caption.step", controller=labels.controller(*pair), **numbers))
    return labels.t("caption.ramping", seeds=labels.number(hourly["seed"].nunique(), 0), steps=labels.listing(texts))


def _data_ramping(hourly: pd.DataFrame) -> pd.DataFrame:
    lines = []
    for pair in tables.keys(hourly):
        for direction, sign in (("up", 1), ("down", -1)):
            sizes, share = _exceedance(sign * _steps(hourly, pair))
            line = pd.DataFrame({"direction": direction, "above": sizes.round(3), "share": share.round(6)})
            lines.append(line.assign(**dict(zip(tables.KEY, pair, strict=True))))
    return pd.concat(lines, ignore_index=True)[[*tables.KEY, "direction", "above", "share"]]


# ------------------------------------------------------------------------------- cars and homes


def departure_margins(departures: pd.DataFrame, tolerance: float = 0.05) -> Figure:
    """SOC at departure minus the required one: how many feasible departures in each 2.5 points.

    A dozen missed departures among thousands are what matters, so the count is logarithmic and they are drawn black.

    Args:
        departures: columns controller, variant, seed, soc, required (0 to 1), feasible and met (bool).
        tolerance: how far below the requirement counts as met in ``met``.
    """
    rows = departures[departures["feasible"].astype(bool)]
    pairs = tables.keys(rows)
    margin, short = 100 * (rows["soc"] - rows["required"]), ~rows["met"].astype(bool)
    low = min(-20.0, 5 * np.floor(margin.min() / 5)) if len(margin) else -20.0
    high = max(20.0, 5 * np.ceil(margin.max() / 5)) if len(margin) else 20.0
    edges = np.arange(low, high + 2.6, 2.5) - 1e-4  # a margin of exactly 0 or of the tolerance falls right of its line
    fig, axes = plt.subplots(
        len(pairs), 1, sharex=True, sharey=True, squeeze=False, figsize=(TEXT_WIDTH, 0.75 + 0.92 * len(pairs))
    )
    for ax, pair in zip(axes[:, 0], pairs, strict=True):
        style = look(*pair, among=pairs)
        own = margin[(rows["controller"] == pair[0]) & (rows["variant"] == pair[1])]
        counts, _ = np.histogram(own, edges)
        for kept, looks in (
            (edges[1:] > -100 * tolerance, {"color": style.color, "hatch": style.hatch}),
            (edges[1:] <= -100 * tolerance, {"color": "black"}),
        ):
            edge = "white" if looks.get("hatch") else looks["color"]
            ax.bar(edges[:-1][kept], counts[kept], 2.5, align="edge", edgecolor=edge, linewidth=0.4, **looks)
        ax.set_yscale("log")
        ax.set_ylim(0.6, 2 * max(len(own), 10))
        ax.axvline(-100 * tolerance, color="#AA3377", lw=1.1, ls=(0, (4, 2)))
        ax.axvline(0, color="0.2", lw=0.8)
        missed = int(short[own.index].sum())
        ax.set_title(_share_missed(pair, missed, len(own)), loc="left", fontsize=9, pad=2)
        number_ticks(ax)
        ax.set_yticks([1, 10, 100, 1000])
        ax.yaxis.set_minor_formatter(NullFormatter())
    axes[-1, 0].set_xlabel(labels.axis("axis.margin", labels.t("unit.points")))
    fig.supylabel(labels.axis("axis.departures", labels.t("unit.number")), fontsize=9)
    return laid_out(fig)


def _caption_departure_margins(departures: pd.DataFrame, tolerance: float = 0.05) -> str:
    rows = departures[departures["feasible"].astype(bool)]
    rows = rows.assign(margin=100 * (rows["soc"] - rows["required"]))
    texts = []
    for pair in tables.keys(rows):
        own = comparison.rows_of(rows, pair)
        numbers = {
            "missed": labels.number((~own["met"].astype(bool)).sum(), 0),
            "departures": labels.number(len(own), 0),
            "median": labels.number(own["margin"].median(), 1, sign=True),
        }
        texts.append(labels.t("caption.missed", controller=labels.controller(*pair), **numbers))
    points = labels.number(100 * tolerance, 0)
    return labels.t(
        "caption.departure_margins", seed=rows["seed"].min(), tolerance=points, missed=labels.listing(texts)
    )


def _data_departure_margins(departures: pd.DataFrame, tolerance: float = 0.05) -> pd.DataFrame:
    rows = departures[departures["feasible"].astype(bool)]
    # to hundredths of a point: tenths would move departures over the line of the tolerance
    points = (100 * (rows["soc"] - rows["required"])).round(2) + 0.0
    return rows.assign(margin=points).groupby([*tables.KEY, "margin"]).size().rename("departures").reset_index()


def _share_missed(pair: tuple[str, str], missed: int, departures: int) -> str:
    counts = {"missed": labels.number(missed, 0), "all": labels.number(departures, 0)}
    return f"{labels.controller(*pair)}: {labels.t('legend.missed', **counts)}"


Failing: TypeAlias = Collection[tuple[str, str]]


def home_heatmap(homes: pd.DataFrame, failing: Failing = ()) -> Figure:
    """Each home's change of cost against BAU, in per cent, one row a controller, one column a home.

    Both ends of the colours are dark on grey paper, so cells above BAU are hatched too.

    Args:
        homes: columns controller, variant, seed, home (name), value (EUR, over the same rows for all); a controller's
            seeds are averaged. Business as usual must be among them.
        failing: controllers below the service gate: a dagger each.
    """
    change = home_changes(homes)
    fig, ax = plt.subplots(figsize=(TEXT_WIDTH, 1.45 + 0.29 * len(change)))
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
            "label": f"{labels.kpi('cost')}: {labels.t('axis.change')} (%)",
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
        [two_lines(tables.marked(pair, pair not in failing)) for pair in change.index],
        rotation=0,
        fontsize=8,
    )
    for row, column in np.argwhere(change.to_numpy() > 0):
        ax.add_patch(Rectangle((column, row), 1, 1, fill=False, hatch="///", ec="0.45", lw=0))
    ax.tick_params(length=0)
    ax.set_ylabel("")
    return laid_out(fig)


def _caption_home_heatmap(homes: pd.DataFrame, failing: Failing = ()) -> str:
    change = home_changes(homes)
    district = homes.groupby(tables.KEY)["value"].sum().loc[list(change.index)]
    texts = []
    for pair in comparison.named(district, failing):
        row: Any = change.loc[pair]
        low, high = str(row.idxmin()), str(row.idxmax())
        texts.append(
            labels.t(
                "caption.home_spread",
                controller=labels.controller(*pair),
                low=labels.percent(row[low] / 100, 0, sign=True),
                low_home=_home_number(low),
                high=labels.percent(row[high] / 100, 0, sign=True),
                high_home=_home_number(high),
                more=labels.number((row > 0).sum(), 0),
            )
        )
    return labels.t(
        "caption.home_heatmap",
        kpi=labels.kpi("cost"),
        seed=homes["seed"].min(),
        spread=labels.listing(texts),
        failing=labels.t("caption.dagger", variants=labels.listing([labels.controller(*pair) for pair in failing]))
        if failing
        else "",
    ) + tables.foresight(list(change.index))


def _data_home_heatmap(homes: pd.DataFrame, failing: Failing = ()) -> pd.DataFrame:
    return home_changes(homes).round(3).reset_index()


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


def _marks(style: Look, place: int, every: int) -> dict[str, Any]:
    """Markers on a line, at other points for each controller, so that lines can be told apart without colour."""
    return {"marker": style.marker, "markevery": (place % every, every), "ms": 4, "mec": "black", "mew": 0.4}


def _first_seed(hourly: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    own = hourly[(hourly["controller"] == pair[0]) & (hourly["variant"] == pair[1])]
    return own[own["seed"] == own["seed"].min()].sort_values("row")


def _peaks(nets: Mapping[tuple[str, str], float]) -> str:
    texts = [
        labels.t("caption.peak", controller=labels.controller(*pair), peak=labels.number(peak, 1))
        for pair, peak in nets.items()
    ]
    return labels.listing(texts)


# name -> figure, caption, data
FIGURES: dict[str, tuple[Callable[..., Figure], Callable[..., str], Callable[..., pd.DataFrame]]] = {
    "mean_day": (mean_day, _caption_mean_day, _data_mean_day),
    "load_duration": (load_duration, _caption_load_duration, _data_load_duration),
    "hard_week": (hard_week, _caption_hard_week, _data_hard_week),
    "policy_day": (policy_day, _caption_policy_day, _data_policy_day),
    "price_response": (price_response, _caption_price_response, _data_price_response),
    "ramping": (ramping, _caption_ramping, _data_ramping),
    "departure_margins": (departure_margins, _caption_departure_margins, _data_departure_margins),
    "home_heatmap": (home_heatmap, _caption_home_heatmap, _data_home_heatmap),
}
