"""The page that every figure is drawn on: one style, one look for each controller, one way to save.

A figure lies in ``figures/<profile>/<language>/`` as PDF, PNG, caption (``.txt``) and LaTeX figure with that caption
(``.tex``, for ``\\input``); what it was drawn from, which has no language, one folder above as CSV. Colour is never the
only carrier of meaning: each controller also has its own line, marker and hatch, and its colour differs in lightness,
so that the page survives a black-and-white printer.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Image, Markdown, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thesis_lib import paths
from thesis_lib.analysis import labels
from thesis_lib.provenance import replacing, write_csv_atomic, write_text_atomic

SHOWN_WIDTH = 720  # pixels on a notebook's page
TEXT_WIDTH = 6.1  # inches: the text block of the thesis (A4, 27.5 mm margins)
SHARE = 0.75  # of the text block's height that a figure may take: the rest is for its caption


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


# ------------------------------------------------------------------------------------ saving, showing


def save(fig: Figure, name: str, profile: str, text: str) -> Path:
    """Write a figure in the folder of the language in use; the same figure gives the same bytes.

    Each file is written beside its place and then moved over it, so a broken run never leaves half a figure.

    Args:
        fig: the figure; closed afterwards.
        name: file name without suffix.
        profile: whose folder.
        text: its caption, in the language in use.

    Returns:
        The path of the PDF; beside it lie the PNG (200 dpi), ``.txt`` and ``.tex``.

    Raises:
        OSError: the folder cannot be written.
    """
    laid_out(fig)
    folder = paths.figures(profile) / labels.language()
    for suffix, metadata in (("png", None), ("pdf", {"CreationDate": None})):
        with replacing(folder / f"{name}.{suffix}") as part:
            fig.savefig(part, format=suffix, dpi=200, metadata=metadata)
    plt.close(fig)
    write_text_atomic(folder / f"{name}.txt", text + "\n")
    write_text_atomic(folder / f"{name}.tex", _include(name, text))
    return folder / f"{name}.pdf"


def _include(name: str, text: str) -> str:
    """The figure for LaTeX; ``\\graphicspath`` must name its folder."""
    return "\n".join(
        [
            r"\begin{figure}[htbp]",
            r"  \centering",
            rf"  \includegraphics[width=\textwidth,height={SHARE}\textheight,keepaspectratio]{{{name}.pdf}}",
            rf"  \caption{{{labels.latex(text)}}}",
            rf"  \label{{fig:{name}}}",
            r"\end{figure}",
            "",
        ]
    )


def publish(
    draw: Callable[[], Figure],
    words: Callable[[], str],
    name: str,
    profile: str | None,
    data: pd.DataFrame | None = None,
) -> None:
    """Draw a figure in every language, save it, and show the one of the language in use with its caption.

    Args:
        draw: makes the figure in the language in use.
        words: makes its caption likewise.
        name: file name without suffix.
        profile: whose folder; None to show it only.
        data: what it was drawn from, saved as CSV.

    Raises:
        OSError: the folder cannot be written.
    """
    if profile is not None:
        for language in labels.LANGUAGES:
            if language != labels.language():
                with labels.using(language):
                    save(draw(), name, profile, words())
    show(draw(), words(), name, profile, data)


def show(fig: Figure, text: str, name: str, profile: str | None, data: pd.DataFrame | None = None) -> None:
    """Save a figure in the language in use (unless ``profile`` is None) and show it in a notebook with its caption.

    Args:
        fig: the figure, closed afterwards.
        text: its caption.
        name: file name without suffix.
        profile: whose folder; None to show it only.
        data: what it was drawn from, saved as CSV.

    Raises:
        OSError: the folder cannot be written.
    """
    laid_out(fig)
    png = io.BytesIO()
    fig.savefig(png, format="png", dpi=200)
    if profile is not None:
        save(fig, name, profile, text)
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
    "tuned_rule": Look("#B87400", (0, (6, 1.5, 1, 1.5, 1, 1.5)), "H", "\\\\"),
    "habits": Look("#C9A24B", (0, (2, 1, 4, 1)), "8", "//"),
    "citylearn_rbc_basic": Look("#4D4D4D", (0, (1, 2)), "2", "|||"),
    "citylearn_rbc_smart": Look("#737373", (0, (3, 2)), "3", "---"),
    "citylearn_rbc_community": Look("#5C5C5C", (0, (5, 1)), "4", "xx"),
    "citylearn_rbc_hours": Look("#A6A6A6", (0, (2, 3)), "1", "oo"),
    "random": Look("#BDBDBD", (0, (1, 3)), "x", ""),
    "independent_td3": Look("#882255", (0, (4, 1, 1, 1, 1, 1)), "<", "++++"),
    "independent_sac": Look("#CC79A7", (0, (2, 1)), ">", "xxxx"),
    "marlisa": Look("#D55E00", (0, (5, 1, 2, 1)), "P", "\\\\\\\\"),
    "maddpg": Look("#009E73", (0, (3, 1)), "^", "----"),
    "cooperative_maddpg": Look("#0072B2", "-", "o", ""),
    "mpc_forecast": Look("#999933", (0, (8, 1, 1, 1)), "p", "oo"),
    "mpc_perfect": Look("#666622", (0, (8, 1, 1, 1, 1, 1)), "h", "OO"),
    "optimum": Look("#000000", (0, (1, 1.5)), "*", ".."),
}
# Further variants of a controller, the same in every figure.
VARIANTS = {
    ("cooperative_maddpg", "none"): Look("#56B4E9", (0, (4, 1.2)), "d", "////"),
    ("cooperative_maddpg", "broadcast"): Look("#004466", (0, (2, 1)), "X", "||||"),
    ("optimum", "replay"): Look("#777777", (0, (2, 1, 1, 1)), "*", "xx"),
}
# What flows and what it costs, by its column's name: one colour in every figure, none of them the only sign.
QUANTITIES = {
    "load": "#949494",
    "pv": "#DE8F05",
    "price": "#AA3377",
    "carbon": "#8C564B",
    "battery": "#44AA99",
    "chargers": "#0072B2",
    "appliances": "#88CCEE",
    "net": "#000000",
}
_SECOND = [Look("#7799BB", (0, (3, 1, 1, 1)), "d", "////"), Look("#445566", (0, (1, 1)), "X", "||||")]
_OTHER = Look("#555555", (0, (3, 2)), "+", "")


def look(controller: str, variant: str = "default", among: Sequence[tuple[str, str]] = ()) -> Look:
    """The look of a controller; a variant without one of its own gets a second one if others stand before it."""
    if (controller, variant) in VARIANTS:
        return VARIANTS[controller, variant]
    variants = [v for name, v in among if name == controller and (name, v) not in VARIANTS]
    place = variants.index(variant) if variant in variants else 0
    return LOOKS.get(controller, _OTHER) if place == 0 else _SECOND[(place - 1) % len(_SECOND)]


def legend_below(fig: Figure, ax: Axes) -> None:
    """The axes' legend under the figure, in as many columns as the text width holds."""
    handles, names = ax.get_legend_handles_labels()
    for columns in range(min(4, len(names)), 0, -1):
        longest = [max(map(len, column)) for column in np.array_split(names, columns)]  # as matplotlib fills them
        if sum(0.073 * letters + 0.52 for letters in longest) <= TEXT_WIDTH:  # inches, at 9 pt
            break
    width, height = fig.get_size_inches()
    fig.set_size_inches(width, height + 0.19 * max(0, -(-len(names) // columns) - 2))  # the axes keep their height
    fig.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=columns,
        handlelength=1.9,
        handletextpad=0.5,
        columnspacing=1.2,
    )


def two_lines(label: str) -> str:
    """A label with what stands in brackets on a second line."""
    return label.replace(" (", "\n(")


def number_ticks(*axes: Axes) -> None:
    """Tick numbers as the language in use writes them."""
    for ax in axes:
        ax.xaxis.set_major_formatter(labels.Numbers())
        ax.yaxis.set_major_formatter(labels.Numbers())


def laid_out(fig: Figure) -> Figure:
    """The figure with its layout settled once, so that showing it changes no byte of what is saved."""
    fig.draw_without_rendering()
    fig.set_layout_engine("none")
    return fig
