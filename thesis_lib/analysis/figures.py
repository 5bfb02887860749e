"""The figures of the thesis: one function per figure, each with its caption and the numbers it was drawn from.

Every function takes plain data frames and returns a figure with a unit on every axis and its words from ``labels``.
Here are those of KPIs and of learning, and ``FIGURES``, which lists them all; ``hourly`` has those of hours, cars and
homes, ``exploration`` those of the data, ``page`` how anything is drawn and saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from thesis_lib.analysis import comparison, evaluation, hourly, labels, page, tables
from thesis_lib.analysis.learner import CONTROLLER
from thesis_lib.analysis.page import TEXT_WIDTH, laid_out, legend_below, look, number_ticks

KPIS = (tables.COMPOSITE, *tables.TERMS)  # the panels of kpi_bars
ENGINE_BAR = 1e-6  # largest relative difference between the engines that the tests allow
FLOOR = 1e-12  # where smaller ones are drawn


# ------------------------------------------------------------------------- controllers, KPI by KPI


def kpi_bars(
    kpis: pd.DataFrame,
    *,
    split: str = "test",
    engine: str = "citylearn",
    edition: str | None = None,
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
    # both rows and the caption fit on a page
    fig, axes = plt.subplots(2, 3, sharey=True, figsize=(TEXT_WIDTH, 2 * (0.52 + 0.145 * len(pairs))))
    for ax, name in zip(axes.flat, KPIS, strict=True):
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
        ax.set_xlabel(f"{labels.kpi(name)} / BAU (–)")
        ax.xaxis.set_label_position("top")
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
                ax.text(0.97 * limit, pairs.index(pair), value, ha="right", va="center", zorder=6, bbox=box, fontsize=8)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        number_ticks(ax)
        ax.set_yticks(
            range(len(pairs)),
            [tables.marked(pair, passes.loc[pair]) for pair in pairs],
            fontsize=8,
        )
        ax.tick_params(axis="y", length=0)
        failing = sum(not passes.loc[pair] for pair in pairs)
        if 0 < failing < len(pairs):
            ax.axhline(len(pairs) - failing - 0.5, color="0.4", lw=0.7)
    axes[0, 0].set_ylim(len(pairs) - 0.4, -0.6)
    return laid_out(fig)


def _caption_kpi_bars(
    kpis: pd.DataFrame,
    *,
    split: str = "test",
    engine: str = "citylearn",
    edition: str | None = None,
) -> str:
    rows = tables.select(kpis, split=split, engine=engine, edition=edition)
    passes = tables.gate(rows)["passes"]
    composite = tables.summary(rows[rows["kpi"] == tables.COMPOSITE]).set_index(tables.KEY)
    competing = [passes.loc[pair] and pair[0] not in tables.FORESIGHT for pair in composite.index]
    serving = composite[np.array(competing, dtype=bool)]
    best = ""
    if len(serving):
        first: Any = serving.reset_index().sort_values("mean").iloc[0]
        pair = (first["controller"], first["variant"])
        value = labels.interval(first["mean"], first["half"], 3)
        best = labels.t("caption.best", controller=labels.controller(*pair), value=value)
    own = comparison.ours(rows)
    if own and best and own != pair:
        mine: Any = composite.loc[[own]].iloc[0]
        value = labels.interval(mine["mean"], mine["half"], 3)
        best += labels.t("caption.ours", controller=labels.controller(*own), value=value)
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
    ) + tables.foresight(list(passes.index))


def _data_kpi_bars(
    kpis: pd.DataFrame,
    *,
    split: str = "test",
    engine: str = "citylearn",
    edition: str | None = None,
) -> pd.DataFrame:
    over = tables.relative(tables.select(kpis, split=split, engine=engine, edition=edition))
    return over.loc[over["kpi"].isin(KPIS), [*tables.KEY, "seed", "kpi", "value"]]


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
    rows = _composites(kpis, splits, engine, edition)
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
                label=tables.marked(pair) if x == 0 else None,
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


def _composites(kpis: pd.DataFrame, splits: Sequence[str], engine: str, edition: str | None) -> pd.DataFrame:
    """The composite's rows of these splits, in the order of the table."""
    rows = kpis[kpis["kpi"] == tables.COMPOSITE]
    return pd.concat([tables.select(rows, split=s, engine=engine, edition=edition) for s in splits]).sort_index()


def _caption_composite_by_split(
    kpis: pd.DataFrame,
    *,
    engine: str = "citylearn",
    edition: str | None = None,
    splits: Sequence[str] = ("train", "validation", "test"),
) -> str:
    rows = _composites(kpis, splits, engine, edition)
    means = rows.groupby([*tables.KEY, "split"])["value"].mean()
    passes = tables.gate(tables.select(kpis, engine=engine, edition=edition, split=splits[-1]))["passes"]
    first_of = rows[rows["split"] == splits[0]]  # a bound has no rows of the train weeks
    last = means.xs(splits[-1], level="split").loc[tables.keys(first_of)].drop(index=tables.BAU, level=0)
    parts = []
    for pair in comparison.named(last, list(passes.index[~passes])):
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
    ) + tables.foresight(tables.keys(rows))


def _data_composite_by_split(
    kpis: pd.DataFrame,
    *,
    engine: str = "citylearn",
    edition: str | None = None,
    splits: Sequence[str] = ("train", "validation", "test"),
) -> pd.DataFrame:
    return _composites(kpis, splits, engine, edition)[[*tables.KEY, "seed", "split", "value"]]


def engine_distance(kpis: pd.DataFrame, *, split: str = "test", edition: str | None = None) -> Figure:
    """How far the fast model is from CityLearn, KPI by KPI and controller by controller, on a log axis.

    Differences below `FLOOR` (equal up to rounding) are drawn there.
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
            rows["distance"].clip(lower=FLOOR),
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
    ax.set_xlim(FLOOR / 2, max(1e-5, 3 * float(table["distance"].max())))
    ax.axvline(ENGINE_BAR, color="black", lw=0.8, ls=(0, (4, 2)))
    ax.set_yticks(range(len(names)), [labels.kpi(n) for n in names])
    ax.invert_yaxis()
    ax.set_xlabel(f"{labels.t('axis.distance')} (–)")
    ax.set_ylabel(labels.t("table.kpi"))
    legend_below(fig, ax)
    return laid_out(fig)


def _caption_engine_distance(kpis: pd.DataFrame, *, split: str = "test", edition: str | None = None) -> str:
    table = tables.engines(kpis, split=split, edition=edition)
    planned = table["controller"].str.startswith("mpc_")
    apart = planned.any() and not planned.all()
    plans = labels.t("caption.engine_plans", **_farthest(table[planned])) if planned.any() else ""
    return labels.t(
        "caption.engine_distance",
        split=labels.t(f"weeks.{split}"),
        floor=labels.scientific(FLOOR),
        bar=labels.scientific(ENGINE_BAR),
        plans=plans,
        apart=labels.t("caption.plans_apart") if apart else "",
        **_farthest(table if planned.all() else table[~planned]),
    )


def _farthest(table: pd.DataFrame) -> dict[str, str]:
    """The largest distance, and where it is, in words."""
    worst: Any = table.sort_values("distance").iloc[-1]
    name = labels.controller(worst["controller"], worst["variant"])
    return {"worst": labels.scientific(worst["distance"]), "kpi": labels.kpi(worst["kpi"]), "controller": name}


# ------------------------------------------------------------------------------------------ learning


def learning_curves(log: pd.DataFrame, references: Mapping[str, float] | None = None) -> Figure:
    """Training loss and validation composite against minutes and updates, one thin line a seed.

    Losses of different learners have nothing in common, so with several the composite stands alone, and once more
    where those that ours is compared with begin and are at their best: one that diverges would press them together.

    Args:
        log: the learner's ``log.csv`` of each seed: columns seed, update, seconds, actor_loss, composite
            (NaN where one was not taken), controller and variant.
        references: controller -> its composite on the validation weeks, as horizontal lines. Business as usual, 1 by
            definition, is not drawn: it would press the curves together.
    """
    frame = log.assign(minutes=log["seconds"] / 60)
    pairs = tables.keys(frame)
    shown = [("composite", "axis.validation")]
    alone = frame["controller"].nunique() == 1
    shown.insert(0, ("actor_loss", "axis.loss") if alone else shown[0])
    height = 0.9 + (1.65 if alone else 2.1) * len(shown)
    fig, axes = plt.subplots(len(shown), 2, sharex="col", sharey="row", squeeze=False, figsize=(TEXT_WIDTH, height))
    for line, (column, label) in enumerate(shown):
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
                        marker=style.marker,
                        ms=2.8,
                        label=labels.controller(*pair) if number == 0 else None,
                    )
            if column == "composite":
                for name, value in (references or {}).items():
                    style = look(name)
                    ax.axhline(value, color=style.color, ls=style.line, lw=1.1, label=labels.controller(name))
            ax.yaxis.set_major_formatter(labels.Numbers())
            ax.xaxis.set_major_formatter(labels.Numbers())
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=time == "update"))
        axes[line, 0].set_ylabel(f"{labels.t(label)} (–)")
    if not alone:
        compared = frame[frame["controller"] != CONTROLLER].dropna(subset=["composite"]).sort_values("update")
        seeds = compared.groupby([*tables.KEY, "seed"])["composite"]
        low, high = seeds.min().min(), seeds.first().max()
        margin = max(0.1 * (high - low), 1e-3)
        axes[-1, 0].set_ylim(low - margin, high + margin)
    axes[-1, 0].set_xlabel(labels.axis("axis.minutes", "min"))
    axes[-1, 1].set_xlabel(f"{labels.t('axis.updates')} (–)")
    legend_below(fig, axes[-1, 0])
    return laid_out(fig)


def _caption_learning_curves(log: pd.DataFrame, references: Mapping[str, float] | None = None) -> str:
    frame = log.dropna(subset=["composite"]).sort_values("update")
    last = frame.groupby([*tables.KEY, "seed"])["composite"].last()
    ends = [
        f"{labels.controller(*pair)} {labels.interval(last[pair].mean(), tables.half_width(last[pair]), 3)}"
        for pair in tables.keys(frame)
    ]
    seeds = log["seed"].unique()
    return labels.t(
        "caption.learning_curves" if len(seeds) > 1 else "caption.learning_curve",
        what=labels.t("caption.with_loss" if frame["controller"].nunique() == 1 else "caption.composite_alone"),
        seeds=len(seeds),
        seed=seeds[0],
        ends=labels.listing(ends),
        references=labels.listing(
            [f"{labels.controller(n)} {labels.number(v, 3)}" for n, v in (references or {}).items()]
            + [labels.t("caption.bau_is_one")]
        ),
    )


# ------------------------------------------------------------------------------ one against another


LINEAR = 0.1  # differences up to this are drawn on a linear scale, larger ones on a logarithmic one


def paired_differences(
    seeds: pd.DataFrame, weeks: pd.DataFrame, table: pd.DataFrame, *, ours: tuple[str, str], **where: str
) -> Figure:
    """Our composite minus each comparator's, seed by seed on the left, test week by test week on the right.

    Args:
        seeds, weeks: as ``comparison.differences`` gives them: columns controller, variant, seed or week, difference.
        table: as ``comparison.compare`` gives it: the means, their t intervals and who serves.
        ours, **where: who we are; split, engine and edition (for the caption).

    Below zero we are better. A comparator that fails the service gate is grey and has a dagger.
    """
    lines = table.to_dict("records")
    pairs = [(line["controller"], line["variant"]) for line in lines]
    height = 1.1 + 0.25 * max(len(lines), 1)
    fig, axes = plt.subplots(1, 2, sharex=True, sharey=True, figsize=(TEXT_WIDTH, height))
    panels = ((axes[0], seeds, "difference", "axis.by_seed"), (axes[1], weeks, "difference_weeks", "axis.by_week"))
    for ax, points, column, label in panels:
        ax.set_xscale("symlog", linthresh=LINEAR)  # a rule loses by a whole, one learner to another by a hundredth
        for y, (pair, line) in enumerate(zip(pairs, lines, strict=True)):
            own = points.loc[(points["controller"] == pair[0]) & (points["variant"] == pair[1]), "difference"]
            style = look(*pair, among=pairs)
            color = style.color if line["gate"] else "0.6"
            offsets = y + np.linspace(-0.25, 0.25, len(own)) if len(own) > 1 else np.full(len(own), float(y))
            ax.plot(own, offsets, "o", ms=2.6, mfc="white", mec="0.35", mew=0.6, ls="", zorder=3)
            if not np.isnan(line[column]):
                half = line[f"{column}_half"]
                if not np.isnan(half):
                    ax.errorbar(line[column], y, xerr=half, color="black", lw=1.2, capsize=3, zorder=4)
                ax.plot(line[column], y, marker=style.marker, ms=6, color=color, mec="black", mew=0.7, zorder=5)
        ax.axvline(0, color="black", lw=0.8, ls=(0, (4, 2)))
        ax.grid(False, axis="y")
        ax.xaxis.set_major_locator(FixedLocator([-1, -LINEAR, 0, LINEAR, 1]))
        ax.xaxis.set_minor_locator(FixedLocator([-LINEAR / 2, LINEAR / 2]))
        ax.tick_params(axis="x", which="minor", bottom=True, length=3)
        ax.xaxis.set_major_formatter(FuncFormatter(labels.Numbers()))  # each tick with its own decimals
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(f"{labels.t(label)} (–)")
    names = [tables.marked(pair, line["gate"]) for pair, line in zip(pairs, lines, strict=True)]
    axes[0].set_yticks(range(len(lines)), names)
    axes[0].set_ylim(len(lines) - 0.5, -0.5)
    return laid_out(fig)


def _caption_paired_differences(
    seeds: pd.DataFrame, weeks: pd.DataFrame, table: pd.DataFrame, *, ours: tuple[str, str], **where: str
) -> str:
    told = table.set_index(tables.KEY)
    texts = [
        labels.t(
            "caption.paired_line",
            variant=labels.controller(*pair),
            difference=labels.difference(told.loc[pair, "difference"], told.loc[pair, "difference_half"]),
            p=labels.p_value(told.loc[pair, "p_holm"]),
            p_weeks=labels.p_value(told.loc[pair, "p_weeks"]),
        )
        for pair in comparison.named(told["value"], list(told.index[~told["gate"]]))
    ]
    # What one of the two tests tells and the other does not must not be read from one of them alone.
    split = told[(told["p_holm"] < comparison.SIGNIFICANT) & (told["p_weeks"] >= comparison.SIGNIFICANT)]
    doubtful = [f"{labels.controller(*pair)} (p {labels.p_value(p)})" for pair, p in split["p_weeks"].items()]
    failing = [labels.controller(*pair) for pair in table.loc[~table["gate"], tables.KEY].itertuples(index=False)]
    return labels.t(
        "caption.paired",
        ours=labels.controller(*ours),
        split=labels.t(f"weeks.{where['split']}"),
        engine=labels.t(f"engine.{where['engine']}"),
        edition=labels.t(f"edition.{where['edition']}"),
        seeds=labels.number(seeds["seed"].nunique(), 0),
        weeks=labels.number(weeks["week"].nunique(), 0),
        linear=labels.number(LINEAR, 1),
        differences=labels.listing(texts),
        doubtful=labels.t("caption.doubtful", variants=labels.listing(doubtful)) if doubtful else "",
        failing=labels.t("caption.dagger", variants=labels.listing(failing)) if failing else "",
    ) + tables.foresight(tables.keys(table))


def _data_paired_differences(
    seeds: pd.DataFrame, weeks: pd.DataFrame, table: pd.DataFrame, *, ours: tuple[str, str], **where: str
) -> pd.DataFrame:
    return pd.concat([seeds, weeks], ignore_index=True)[[*tables.KEY, "seed", "week", "difference"]]


def _data_learning_curves(log: pd.DataFrame, references: Mapping[str, float] | None = None) -> pd.DataFrame:
    return log[[*tables.KEY, "seed", "update", "seconds", "actor_loss", "composite"]]


# ------------------------------------------------------------------------------------ all of them


@dataclass(frozen=True)
class Kind:
    """A figure: how it is drawn, what its caption says, what it is drawn from; all take the same arguments."""

    draw: Callable[..., Figure]
    caption: Callable[..., str]
    data: Callable[..., pd.DataFrame]


FIGURES = {
    "kpi_bars": Kind(kpi_bars, _caption_kpi_bars, _data_kpi_bars),
    "composite_by_split": Kind(composite_by_split, _caption_composite_by_split, _data_composite_by_split),
    "engine_distance": Kind(engine_distance, _caption_engine_distance, tables.engines),
    "learning_curves": Kind(learning_curves, _caption_learning_curves, _data_learning_curves),
    "paired_differences": Kind(paired_differences, _caption_paired_differences, _data_paired_differences),
    **{name: Kind(*functions) for name, functions in hourly.FIGURES.items()},
}


def caption(name: str, *frames: Any, of: Mapping[str, str] | None = None, **options: Any) -> str:
    """The caption of figure ``name``, its numbers computed from the same arguments the figure was given.

    Args:
        name: one of ``FIGURES``.
        *frames, **options: its arguments.
        of: split, engine and edition of frames that do not say it themselves: the caption's last sentence.

    Raises:
        ValueError: no such figure.
    """
    text = _kind(name).caption(*frames, **options)
    if of is None:
        return text
    weeks = labels.t(f"weeks.{of['split']}")
    engine, edition = labels.t(f"engine.{of['engine']}"), labels.t(f"edition.{of['edition']}")
    return text + labels.t("caption.of", split=weeks[0].upper() + weeks[1:], engine=engine, edition=edition)


def publish(
    name: str,
    *frames: Any,
    profile: str | None,
    save_as: str | None = None,
    of: Mapping[str, str] | None = None,
    **options: Any,
) -> None:
    """Draw a figure in both languages, save it with its caption and data, show it in a notebook.

    Args:
        name: one of ``FIGURES``.
        *frames, **options: its arguments.
        profile: whose folder; None to show it only.
        save_as: file name without suffix; ``name`` if not given.
        of: as in `caption`.

    Raises:
        ValueError: no such figure, or what the figure itself raises.
        OSError: the folder cannot be written.
    """
    kind = _kind(name)
    page.publish(
        lambda: kind.draw(*frames, **options),
        lambda: caption(name, *frames, of=of, **options),
        save_as or name,
        profile,
        kind.data(*frames, **options),
    )


def _kind(name: str) -> Kind:
    if name not in FIGURES:
        raise ValueError(f"no figure {name!r}: there are {', '.join(sorted(FIGURES))}")
    return FIGURES[name]
