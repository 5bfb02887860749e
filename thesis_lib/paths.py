"""Where everything lies: the folders of the repository, and of every run, from names that cannot leave them.

Elsewhere a file is named within one of these folders, or from ``ROOT`` where one module alone knows it (``models/``,
``docs/``). Nothing depends on where a process was started.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = Path(__file__).resolve().parent


def _checked(name: str) -> str:
    """A profile, edition, controller or variant as a folder name.

    Raises:
        ValueError: the name would leave its folder, or is no portable file name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ValueError(f"'{name}' cannot name a folder: use letters, digits, '_', '-' and '.'")
    return name


def configs() -> Path:
    """The folder of the profiles, ``configs/``."""
    return ROOT / "configs"


def notebooks() -> Path:
    """The folder of the paired notebooks, ``notebooks/``."""
    return ROOT / "notebooks"


def scripts() -> Path:
    """The folder of the py:percent scripts, the notebooks' source of truth."""
    return ROOT / "notebooks" / "scripts"


def lock() -> Path:
    """The file that pins every package, ``requirements.lock``."""
    return ROOT / "requirements.lock"


def cache() -> Path:
    """The folder of what can be made or fetched again, ``.cache/`` (git-ignored)."""
    return ROOT / ".cache"


def results(profile: str) -> Path:
    """``results/<profile>/``: kpis.csv, tables/, runs/, notebooks/, reports/, run.json.

    Raises:
        ValueError: ``profile`` cannot name a folder.
    """
    return ROOT / "results" / _checked(profile)


def tables(profile: str) -> Path:
    """``results/<profile>/tables/``. Raises as ``results`` does."""
    return results(profile) / "tables"


def tuning(learner: str) -> Path:
    """``results/tuning/<learner>.csv``: every trial of its search. Raises as ``results`` does."""
    return results("tuning") / f"{_checked(learner)}.csv"


def figures(profile: str) -> Path:
    """``figures/<profile>/``. Raises as ``results`` does."""
    return ROOT / "figures" / _checked(profile)


def run(profile: str, edition: str, controller: str, variant: str, seed: int) -> Path:
    """The folder of one run: ``results/<profile>/runs/<edition>/<controller>/<variant>/seed_<n>/``.

    Raises:
        ValueError: one of the names cannot name a folder.
    """
    return results(profile) / "runs" / _run(edition, controller, variant, seed)


def checkpoints(profile: str, edition: str, controller: str, variant: str, seed: int) -> Path:
    """The folder of one run's ``best.pt`` and ``last.pt``: ``checkpoints/...`` (git-ignored).

    Raises:
        ValueError: one of the names cannot name a folder.
    """
    return ROOT / "checkpoints" / _checked(profile) / _run(edition, controller, variant, seed)


def executed(profile: str, name: str) -> Path:
    """The executed notebook, ``results/<profile>/notebooks/<name>.ipynb``. Raises as ``results`` does."""
    return results(profile) / "notebooks" / f"{_checked(name)}.ipynb"


def report(profile: str, name: str) -> Path:
    """Its HTML, ``results/<profile>/reports/<name>.html``. Raises as ``results`` does."""
    return results(profile) / "reports" / f"{_checked(name)}.html"


def _run(edition: str, controller: str, variant: str, seed: int) -> Path:
    return Path(_checked(edition), _checked(controller), _checked(variant), f"seed_{int(seed)}")
