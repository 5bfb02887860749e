"""docs/thesis.tex takes the figures that the notebooks draw, and compiles where LaTeX is installed."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from thesis_lib import paths
from thesis_lib.analysis import labels, page, robustness, tables
from thesis_lib.config import load_config

SOURCE = paths.ROOT / "docs" / "thesis.tex"
PROFILES = ("thesis", "ablations")
DOZEN = {
    *("data_resources", "data_hours", "data_sessions", "data_splits", "learning_curves", "kpi_bars"),
    *("paired_differences", "load_duration", "mean_day", "ramping", "departure_margins", "price_response"),
    *("home_heatmap", "ablation_front"),
}


def test_the_dozen_is_in_the_thesis_and_drawn_by_a_notebook() -> None:
    text = SOURCE.read_text(encoding="utf-8")
    asked = set(re.findall(r"^\\(?:thesis|ablation)figure\{(\w+)\}", text, flags=re.MULTILINE))
    assert asked >= DOZEN
    scripts = "".join(file.read_text(encoding="utf-8") for file in paths.scripts().glob("*.py"))
    variants = {name for profile in PROFILES for name in load_config(profile).variants}

    def written(name: str) -> bool:
        """Whether a notebook names it, whole or as a form that ends in a variant or in another name of the notebook."""
        ends = [name.removeprefix(form) for form in re.findall(r'f"(\w+_)\{', scripts) if name.startswith(form)]
        return f'"{name}"' in scripts or any(end in variants or f'"{end}"' in scripts for end in ends)

    elsewhere = {"claims", f"ablation_{robustness.FAMILY.name}"}  # claims.save, and a family that a module names
    for name in asked | set(re.findall(r"^\\(?:thesis|ablation)table\{(\w+)\}", text, flags=re.MULTILINE)):
        assert written(name) or name in elsewhere, f"no notebook draws or writes {name}"
    assert not written("ablation_colour") and not written("policy_day_nobody")
    assert not re.search(r"\d\.\d{2}", re.sub(r"%.*", "", text)), "a number in the skeleton"


@pytest.mark.parametrize("language", labels.LANGUAGES)
def test_every_figure_and_table_is_in_the_thesis_or_said_not_to_be(language: str) -> None:
    """README.md says so. Fails when a notebook leaves a figure or table that docs/thesis.tex does not mention."""
    text = SOURCE.read_text(encoding="utf-8")
    left_out = set(re.findall(r"^%   (\w+\.(?:pdf|tex))  +\S", text, flags=re.MULTILINE))
    there = {file.name for profile in PROFILES for file in (paths.figures(profile) / language).glob("*.pdf")}
    there |= {file.name for profile in PROFILES for file in (paths.tables(profile) / language).glob("*.tex")}
    asked = {f"{name}.pdf" for name in re.findall(r"^\\(?:thesis|ablation)figure\{(\w+)\}", text, flags=re.MULTILINE)}
    asked |= {f"{name}.tex" for name in re.findall(r"^\\(?:thesis|ablation)table\{(\w+)\}", text, flags=re.MULTILINE)}
    assert asked | left_out == there and not asked & left_out
    assert "names at its head the few it leaves out" in (paths.ROOT / "README.md").read_text(encoding="utf-8")


TEXT_HEIGHT, LINE, LETTERS = 242, 4.8, 80  # of the text block: mm, mm a line, letters a line at 11 pt


@pytest.mark.parametrize("language", labels.LANGUAGES)
def test_each_figure_fits_on_a_page_with_its_caption(language: str) -> None:
    asked = re.findall(r"^\\(thesis|ablation)figure\{(\w+)\}", SOURCE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for place, name in asked:
        file = paths.figures(place.replace("ablation", "ablations")) / language / f"{name}.png"
        if not file.is_file():
            continue  # not drawn yet
        width, height = struct.unpack(">II", file.read_bytes()[16:24])
        tall = 155 * height / width  # mm, at the width of the text
        assert tall <= page.SHARE * TEXT_HEIGHT, f"{name} would be shrunk, {tall:.0f} mm tall"
        caption = file.with_suffix(".txt").read_text(encoding="utf-8")
        whole = tall + LINE * (2 + -(-len(caption) // LETTERS))
        assert whole <= TEXT_HEIGHT, f"{name} and its caption take {whole:.0f} mm"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One figure and one table of the thesis, with every sign that captions use."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    page.use_style()
    signs = "1 ± 2 € − 3 % of «a» “b” → c † _ & # ≥ ≤ σ µ kg CO₂ < 4 > 5 {x} $y$ ~ ^ – 6" + labels.SPACE + "kW"
    page.publish(lambda: plt.figure(figsize=(page.TEXT_WIDTH, 1)), lambda: signs, "kpi_bars", "thesis")
    tables.save(pd.DataFrame({"controller": ["rule"], "cost": [1.5]}), "main", "thesis", lambda: signs)
    yield tmp_path
    labels.use("en")
    plt.close("all")


def test_a_figure_lies_in_both_languages_with_caption_and_data(root: Path) -> None:
    for language in labels.LANGUAGES:
        folder = paths.figures("thesis") / language
        assert {file.name for file in folder.iterdir()} == {f"kpi_bars.{kind}" for kind in ("pdf", "png", "tex", "txt")}
        tex = (folder / "kpi_bars.tex").read_text(encoding="utf-8")
        assert r"height=0.75\textheight,keepaspectratio]{kpi_bars.pdf}" in tex and r"\label{fig:kpi_bars}" in tex
        assert all(ord(letter) < 0x2000 for letter in tex), "a sign that plain LaTeX cannot set"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed")
@pytest.mark.parametrize("language", labels.LANGUAGES)
def test_the_thesis_compiles_with_what_is_there(root: Path, language: str) -> None:
    docs = root / "docs"
    docs.mkdir()
    shutil.copy(SOURCE, docs)
    asked = rf"\def\lang{{{language}}}\input{{thesis.tex}}"
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-jobname=out", asked]
    told = subprocess.run(command, cwd=docs, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout[-2000:]
    log = (docs / "out.log").read_text(encoding="latin-1")
    assert "kpi_bars.pdf" in log and "main.tex" in log and "learning_curves.tex" not in log
