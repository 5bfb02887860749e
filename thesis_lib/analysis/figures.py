"""The figures of the thesis: one style, one way to save, one function per figure.

Every function takes plain data frames and returns a figure with a unit on every axis and its words from
``labels``. Colour is never the only carrier of meaning: each controller also has its own line, marker and
hatch, and its colour differs in lightness, so that the page survives a black-and-white printer.
"""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

from thesis_lib import paths

TEXT_WIDTH = 6.1  # inches: the text block of the thesis (A4, 27.5 mm margins)


def use_style() -> None:
    """Set seaborn and matplotlib up for the printed page: 9-10 pt text, TrueType fonts, no title clutter."""
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
    folder = paths.figures(profile)
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("png", "pdf"):
        target = folder / f"{name}.{suffix}"
        part = folder / f".{name}.{os.getpid()}.{suffix}"
        try:
            fig.savefig(
                part, format=suffix, dpi=200, metadata={"CreationDate": None} if suffix == "pdf" else None
            )
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    plt.close(fig)
    return target
