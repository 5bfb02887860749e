"""The notebooks and the runner that executes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import jupytext
import matplotlib
import nbformat
import pytest

from thesis_lib import notebooks, paths
from thesis_lib.analysis import labels
from thesis_lib.community import dataset

SCRIPTS = sorted(file.stem for file in paths.scripts().glob("*.py"))

SCRIPT = """# %% [markdown]
# # A small notebook
# Divides.

# %% tags=["parameters"]
profile = "quick"
divisor = 1
scale = 1.0

# %%
print("progress", 7 * scale / divisor)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one small notebook."""
    (tmp_path / "notebooks" / "scripts").mkdir(parents=True)
    (tmp_path / "notebooks" / "scripts" / "01_small.py").write_text(SCRIPT)
    shutil.copytree(paths.configs(), tmp_path / "configs")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_and_notebook_say_the_same(name):
    script = jupytext.read(paths.scripts() / f"{name}.py")
    pair = nbformat.read(paths.notebooks() / f"{name}.ipynb", as_version=4)
    contents = [[(cell.cell_type, cell.source.strip()) for cell in half.cells] for half in (script, pair)]
    assert contents[0] == contents[1], f"run `make sync` after editing {name}.py"
    assert [cell.metadata for cell in script.cells] == [cell.metadata for cell in pair.cells]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in pair.cells)


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_notebook_has_one_cell_of_parameters_and_a_mock(name):
    notebook = notebooks.read_script(name)
    parameters = notebooks.parameters_of(notebook)
    assert {"profile", "edition", "language"} <= parameters.keys()
    tagged = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    mock = tagged.metadata["nbmake"]["mock"]
    assert mock.keys() <= parameters.keys()
    assert mock["profile"] == "test"


@pytest.mark.parametrize("asked", ["", "offline"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_notebook_takes_the_profiles_edition_unless_asked_for_another(name, asked, monkeypatch):
    """Its first cells, up to the data: the thesis is of the official edition, or stops."""

    class Found(Exception):
        pass

    def find(edition):
        raise Found(edition)

    monkeypatch.setattr(dataset, "find", find)
    code = [cell.source for cell in notebooks.read_script(name).cells if cell.cell_type == "code"]
    names = {}
    with matplotlib.rc_context(), labels.using("en"), pytest.raises(Found) as found:
        exec(code[0], names)
        exec(code[1], names | {"profile": "thesis"} | ({"edition": asked} if asked else {}))
    assert str(found.value) == (asked or "official")


def test_no_notebook_without_a_script():
    assert sorted(file.stem for file in paths.notebooks().glob("*.ipynb")) == SCRIPTS


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["01_small", "--parameter", "divisr=1"],
            "no parameter 'divisr'; allowed are profile, divisor, scale",
        ),
        (["01_small", "--parameter", "divisor=many"], "parameter 'divisor' of 01_small is int"),
        (["01_small", "--parameter", "divisor"], "write NAME=VALUE"),
        (["01_small", "--profile", "quik"], "no profile 'quik'"),
        (["01_small", "--profile", "configs/quick.yaml"], "--profile configs/quick.yaml: write the name"),
        (["01_small", "--save-as", "a/b"], "--save-as: 'a/b' cannot name a folder"),
        (["02_small"], "no notebook '02_small'; allowed are 01_small"),
    ],
)
def test_what_is_asked_wrongly_stops_before_anything_is_written(root, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(root)
    before = sorted(root.rglob("*"))
    assert notebooks.main(["run", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("error: ") and error.count("\n") == 1
    assert sorted(root.rglob("*")) == before


def test_an_unwritable_results_folder_stops_in_one_line(root, capsys):
    (root / "results").write_text("in the way")
    assert notebooks.main(["run", "01_small"]) == 2
    error = capsys.readouterr().err
    assert "cannot be written" in error and error.count("\n") == 1


def test_a_run_leaves_notebook_and_report_and_a_failure_keeps_them(root, capsys):
    asked = ["run", "01_small", "--save-as", "01_small_seed_0", "--parameter"]
    assert notebooks.main([*asked, "divisor=2"]) == 0
    assert "[01_small_seed_0] progress 3.5" in capsys.readouterr().out
    executed, report = paths.executed("quick", "01_small_seed_0"), paths.report("quick", "01_small_seed_0")
    assert "<title>A small notebook</title>" in report.read_text(encoding="utf-8")
    assert "progress 3.5" in report.read_text(encoding="utf-8")
    assert "divisor = 2" not in report.read_text(encoding="utf-8")
    good = executed.read_bytes(), report.read_bytes()

    failed = executed.with_name("01_small_seed_0.failed.ipynb")
    assert notebooks.main([*asked, "divisor=0"]) == 1
    error = capsys.readouterr().err
    assert error == (
        "error: 01_small_seed_0 stopped with ZeroDivisionError: float division by zero "
        "(see results/quick/notebooks/01_small_seed_0.failed.ipynb)\n"
    )
    assert (executed.read_bytes(), report.read_bytes()) == good
    assert "ZeroDivisionError" in failed.read_text(encoding="utf-8")

    assert notebooks.main([*asked, "scale=2"]) == 0  # an integer where a float stands is meant as one
    assert not failed.exists()
    assert sorted(file.name for file in executed.parent.iterdir()) == [executed.name]


def test_a_file_that_cannot_be_written_is_told_in_one_line(root, monkeypatch, capsys):
    (root / "notebooks" / "01_small.ipynb").mkdir()
    assert notebooks.main(["sync"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "01_small.ipynb" in error and error.count("\n") == 1

    def full(notebook, report):
        raise OSError(28, "No space left on device", str(report))

    monkeypatch.setattr(notebooks, "export_html", full)
    assert notebooks.main(["run", "01_small"]) == 1
    error = capsys.readouterr().err
    assert "No space left on device" in error and "01_small.html" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("import os", "plain assignments only"),
        ("late = 1 + 1", "'late' must be a plain literal"),
    ],
)
def test_parameters_are_plain_literals(cell, says):
    tagged = nbformat.v4.new_code_cell(cell, metadata={"tags": ["parameters"]})
    with pytest.raises(notebooks.NotebookError, match=says):
        notebooks.parameters_of(nbformat.v4.new_notebook(cells=[tagged]))


def test_one_cell_of_parameters_is_asked_for():
    with pytest.raises(notebooks.NotebookError, match="this one has 0"):
        notebooks.parameters_of(nbformat.v4.new_notebook())


def test_sync_writes_what_changed_and_nothing_else(root):
    assert [path.name for path in notebooks.sync()] == ["01_small.ipynb"]
    assert notebooks.sync() == []
    script = root / "notebooks" / "scripts" / "01_small.py"
    script.write_text(SCRIPT.replace("Divides.", "Divides well."))
    assert [path.name for path in notebooks.sync()] == ["01_small.ipynb"]
