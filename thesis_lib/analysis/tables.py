"""The tables of the thesis: controllers by KPI with their spread over seeds, and one way to save them."""

from __future__ import annotations

import os
from numbers import Real
from pathlib import Path

import pandas as pd

from thesis_lib import paths
from thesis_lib.analysis import labels

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "€": r"\texteuro{}",
    "₂": r"$_2$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\u202f": r"\,",
}


def latex(text: object) -> str:
    """A cell, heading or caption escaped for LaTeX, with the signs that labels uses."""
    return "".join(_LATEX.get(letter, letter) for letter in str(text))


def save(frame: pd.DataFrame, name: str, profile: str, caption: str = "", label: str = "") -> Path:
    """Write ``results/<profile>/tables/<name>.csv`` as it is and ``<name>.tex`` with printed headings.

    The index is not written: put what must be read into a column. Numbers in the .tex follow the language
    (integers as they are, others with three decimals); text cells are taken as they stand.

    Returns:
        The path of the CSV.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = paths.results(profile) / "tables"
    folder.mkdir(parents=True, exist_ok=True)

    def cell(value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, Real):
            return latex(value)
        return latex(labels.number(value, 0 if float(value).is_integer() else 3))

    printed = labels.column_names(frame)
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in printed.dtypes]
    printed.columns = [latex(column) for column in printed.columns]
    style = printed.style.format(cell).hide(axis="index")
    tex = style.to_latex(
        hrules=True,
        caption=latex(caption) or None,
        label=label or f"tab:{name}",
        position="htbp",
        position_float="centering",
        column_format="".join("r" if is_number else "l" for is_number in numeric),
    )
    for suffix, text in (("tex", tex), ("csv", frame.to_csv(index=False, lineterminator="\n"))):
        target = folder / f"{name}.{suffix}"
        part = folder / f".{name}.{os.getpid()}.{suffix}"
        try:
            part.write_text(text, encoding="utf-8", newline="\n")
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    return target
