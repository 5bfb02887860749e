"""Runs a notebook as a batch job, and keeps the notebooks and their scripts the same.

    python -m thesis_lib.notebooks run 02_training --profile quick --parameter seed=0
    python -m thesis_lib.notebooks sync

The script in ``notebooks/scripts`` is what runs; the notebook beside it is for reading and for JupyterLab.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from thesis_lib import paths
from thesis_lib.config import ConfigError, load_config
from thesis_lib.provenance import NotWritableError, ensure_writable, write_text_atomic

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


class NotebookError(ValueError):
    """A notebook that cannot be run as asked; its text is one line that says what to do."""


class NotebookFailed(RuntimeError):
    """A notebook that stopped in one of its cells; its text says where the executed part is."""


def read_script(name: str) -> nbformat.NotebookNode:
    """The notebook in memory, from its script.

    Args:
        name: the script's name without its ending, such as ``02_training``.

    Raises:
        NotebookError: there is no such script.
    """
    script = paths.scripts() / f"{name}.py"
    if not script.is_file():
        known = ", ".join(sorted(file.stem for file in paths.scripts().glob("*.py")))
        raise NotebookError(f"no notebook '{name}'; allowed are {known}")
    notebook = jupytext.read(script)
    notebook.metadata = nbformat.NotebookNode(kernelspec=nbformat.NotebookNode(KERNEL))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"  # jupytext draws new ones at every reading
    return notebook


def parameters_of(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """The parameters a notebook takes, with the values that stand in its cell tagged ``parameters``.

    Args:
        notebook: a notebook in memory.

    Raises:
        NotebookError: not exactly one such cell, or a value in it that is no plain literal.
    """
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise NotebookError(f"a notebook needs one cell tagged 'parameters', this one has {len(tagged)}")
    parameters = {}
    for statement in ast.parse(tagged[0].source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            target, value = statement.targets[0], statement.value
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            target, value = statement.target, statement.value
        else:
            raise NotebookError(f"the parameters cell may hold plain assignments only, not: {ast.unparse(statement)}")
        try:
            parameters[target.id] = ast.literal_eval(value)
        except ValueError:
            raise NotebookError(f"parameter '{target.id}' must be a plain literal") from None
    return parameters


def run(name: str, profile: str, parameters: Mapping[str, Any] | None = None, *, save_as: str | None = None) -> Path:
    """Execute one notebook; keep it executed, and as HTML for a reader who opens no notebook.

    The executed notebook replaces the earlier one when it has come to its end. One that fails stays beside it
    as ``<name>.failed.ipynb``, and the earlier one and its report stay as they were.

    Args:
        name: the script's name without its ending.
        profile: name of the profile; also handed to the notebook.
        parameters: values for names in the notebook's parameters cell.
        save_as: name of the executed notebook and of its report; ``name`` if not given.

    Returns:
        The executed notebook.

    Raises:
        NotebookError: no such notebook, an unknown parameter, a value of another type than its own, a profile that is
            not given by its name, or a ``save_as`` that cannot name a file.
        ConfigError: no such profile, or a fault in it.
        NotWritableError: the results folder cannot be written.
        NotebookFailed: a cell failed, or the kernel died.
        OSError: the report cannot be written.
    """
    import papermill

    values = {"profile": profile, **(parameters or {})}
    notebook = read_script(name)
    _check_parameters(name, parameters_of(notebook), values)
    if (own := load_config(profile).profile) != profile:
        raise NotebookError(f"--profile {profile}: write the name that a file of configs/ and its key share, as {own}")
    label = save_as or name
    try:
        target, report = paths.executed(profile, label), paths.report(profile, label)
    except ValueError as error:
        raise NotebookError(f"--save-as: {error}") from None
    ensure_writable(target.parent)
    ensure_writable(report.parent)

    failed = target.with_name(f"{target.stem}.failed.ipynb")
    running = target.with_name(f".{target.stem}.running.ipynb")
    output = _Prefixed(label)
    output.line("starts: " + ", ".join(f"{key}={value}" for key, value in values.items()))
    started = time.perf_counter()
    try:
        papermill.execute_notebook(
            notebook,
            str(running),
            parameters=values,
            kernel_name="python3",
            cwd=str(paths.notebooks()),
            progress_bar=False,
            extra_arguments=["--IPKernelApp.log_level=50"],  # its own words only when it breaks
            stdout_file=output,
            stderr_file=output,
        )
        os.replace(running, target)
    except papermill.PapermillExecutionError as error:
        cause = f"{error.ename}: {error.evalue}".splitlines()[0]
        raise NotebookFailed(f"{label} stopped with {cause} (see {_short(failed)})") from error
    except (RuntimeError, OSError) as error:  # the kernel died, or could not be reached
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        raise NotebookFailed(f"{label} stopped with {cause} (see {_short(failed)})") from error
    finally:  # whatever stopped it, Ctrl-C too: what it had done is there to be read
        if running.exists():
            os.replace(running, failed)
    failed.unlink(missing_ok=True)
    export_html(target, report)
    output.line(f"done in {time.perf_counter() - started:.0f} s: {_short(target)}, {_short(report)}")
    return target


def export_html(notebook: Path, report: Path) -> Path:
    """Write an executed notebook as HTML: prose, tables and figures, the code left out, formulas as MathML.

    The page needs no other file and no network to be read as it is meant.

    Args:
        notebook: an executed notebook.
        report: the HTML file to write.

    Returns:
        The HTML file.

    Raises:
        OSError: the notebook cannot be read, or the report not written.
    """
    from nbconvert import HTMLExporter

    content = nbformat.read(notebook, as_version=4)
    headings = (line for cell in content.cells if cell.cell_type == "markdown" for line in cell.source.splitlines())
    title = next((line.removeprefix("# ") for line in headings if line.startswith("# ")), notebook.stem)
    for cell in content.cells:
        if cell.cell_type == "markdown":
            cell.source = _with_mathml(cell.source)
        for made in cell.get("outputs", []):
            if "text/markdown" in made.get("data", {}):
                made.data["text/markdown"] = _with_mathml(made.data["text/markdown"])
    exporter = HTMLExporter(exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True, mathjax_url="")
    body, _ = exporter.from_notebook_node(content, resources={"metadata": {"name": title}})
    return write_text_atomic(report, body)


def _with_mathml(text: str) -> str:
    """Markdown with its $...$ and $$...$$ as MathML, which browsers draw without a script."""
    from latex2mathml.converter import convert

    text = re.sub(r"\$\$(.+?)\$\$", lambda m: convert(" ".join(m[1].split()), display="block"), text, flags=re.DOTALL)
    return re.sub(r"(?<![\\$])\$([^$\n]+?)\$(?!\d)", lambda m: convert(m[1]), text)


def sync() -> list[Path]:
    """Write every paired notebook anew from its script, without outputs; returns those that changed.

    Raises:
        OSError: a notebook cannot be written.
    """
    changed = []
    for script in sorted(paths.scripts().glob("*.py")):
        target = paths.notebooks() / f"{script.stem}.ipynb"
        text = nbformat.writes(read_script(script.stem), version=4) + "\n"
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            changed.append(write_text_atomic(target, text))
    return changed


def main(arguments: list[str] | None = None) -> int:
    """The command line.

    Args:
        arguments: as in ``sys.argv[1:]``.

    Returns:
        The exit status: 0, 1 for a notebook that failed or a file that cannot be written, 2 for something asked wrongly
        (one line on stderr).
    """
    parser = argparse.ArgumentParser(prog="python -m thesis_lib.notebooks", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="execute a notebook and export it to HTML")
    runner.add_argument("name", help="such as 02_training")
    runner.add_argument("--profile", default="quick", help="a file of configs/ (default: quick)")
    runner.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    runner.add_argument("--save-as", metavar="NAME", help="name of the executed notebook (default: the notebook's)")
    commands.add_parser("sync", help="write notebooks/*.ipynb from notebooks/scripts/*.py")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "sync":
            for path in sync():
                print(f"written: {_short(path)}")
        else:
            run(asked.name, asked.profile, dict(map(_parsed, asked.parameter)), save_as=asked.save_as)
    except (NotebookError, ConfigError, NotWritableError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (NotebookFailed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _check_parameters(name: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raises NotebookError for a name the notebook does not have, or a value of another type than its own."""
    for key, value in given.items():
        if key not in known:
            raise NotebookError(f"{name} has no parameter '{key}'; allowed are {', '.join(known)}")
        own = known[key]
        same = own is None or type(value) is type(own) or (isinstance(own, float) and type(value) is int)
        if not same:
            raise NotebookError(f"parameter '{key}' of {name} is {type(own).__name__}, not {value!r}")


def _parsed(text: str) -> tuple[str, Any]:
    """``name=value`` with the value read as JSON, or as plain text where it is none."""
    name, equals, value = text.partition("=")
    if not equals:
        raise NotebookError(f"'{text}' is no parameter: write NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _short(path: Path) -> str:
    return path.relative_to(paths.ROOT).as_posix() if path.is_relative_to(paths.ROOT) else path.as_posix()


class _Prefixed:
    """A stream that puts the notebook's name before each line, so that parallel jobs can be told apart."""

    def __init__(self, label: str) -> None:
        self.label = label

    def line(self, text: str) -> None:
        print(f"[{self.label}] {text}", flush=True)

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                self.line(line)
        return len(text)

    def flush(self) -> None:
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
