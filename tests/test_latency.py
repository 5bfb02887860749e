"""What notebook 05 measures and draws: forms, parts of a request, contents of the image, figures and their captions."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import model
from served import exported

from thesis_lib import paths
from thesis_lib.analysis import labels, page, tables
from thesis_lib.serving import latency

FORMS = pd.DataFrame(
    {"variant": "none", "form": ["eager", "eager_cuda", "onnx", "homes"], "p50_us": [5123.4, 912.3, 181.2, 640.0]}
).assign(p99_us=lambda table: 2 * table.p50_us)
RATES = pd.DataFrame(
    {"rate": [100, 500, 1728], "p50_ms": [0.7, 0.612, 9.5], "p99_ms": [1.5, 2.06, 99.25], "achieved": 1.0, "failed": 0}
)
PARTS = pd.DataFrame(
    {"rate": 500, "part": ["model", "server", "transport", "client"], "ms": [0.251, 0.15, 0.2, 0.1015]}
)
MACHINE = {"cpu": "Some CPU", "cores": 6, "threads": 3}
FIGURES = {
    "forms": (FORMS, latency.forms_figure, lambda table: latency.forms_caption(table, 17, MACHINE)),
    "rates": (RATES, latency.rates_figure, lambda table: latency.rates_caption(table, "broadcast", MACHINE)),
    "parts": (PARTS, latency.parts_figure, lambda table: latency.parts_caption(table, "broadcast", MACHINE)),
}


@pytest.mark.usefixtures("english_page")
@pytest.mark.parametrize("language", labels.LANGUAGES)
@pytest.mark.parametrize("name", FIGURES)
def test_figures_say_units_and_write_numbers_as_the_language_does(name: str, language: str) -> None:
    table, draw, _ = FIGURES[name]
    labels.use(language)
    fig = draw(table)
    fig.canvas.draw()
    (ax,) = fig.axes
    assert re.search(r"^[A-Z].*\((ms|µs|1/s)\)$", ax.get_xlabel())
    assert name != "rates" or re.search(r"^[A-Z].*\(ms\)$", ax.get_ylabel())
    numeric = [ax.xaxis, ax.yaxis] if name == "rates" else [ax.xaxis]
    texts = [label.get_text() for axis in numeric for label in axis.get_ticklabels()]
    assert texts and all(re.fullmatch(r"[\d.,\u202f]+", text) for text in texts)
    wrong = "," if language == "en" else "."
    assert not any(re.search(rf"\{wrong}\d\d?$", text) for text in texts)
    if name == "parts":
        assert any(labels.number(0.2, 1) in text for text in texts)
    tight, (width, height) = fig.get_tightbbox(), fig.get_size_inches()
    assert tight.x0 > -0.02 and tight.x1 < width + 0.02 and tight.y0 > -0.02 and tight.y1 < height + 0.02
    plt.close(fig)


@pytest.mark.usefixtures("english_page")
@pytest.mark.parametrize("language", labels.LANGUAGES)
def test_captions_hold_the_numbers_of_the_data(language: str) -> None:
    labels.use(language)
    texts = {name: words(table) for name, (table, _, words) in FIGURES.items()}
    wanted = {"forms": (5123.4, 0), "rates": (2.06, 2), "parts": (0.251, 3)}
    for name, (value, digits) in wanted.items():
        assert labels.number(value, digits) in texts[name]
        assert "{" not in texts[name] and "nan" not in texts[name] and texts[name].endswith(": 3.")
        variant = labels.controller("cooperative_maddpg", "none" if name == "forms" else "broadcast")
        assert f". {variant}; Some CPU, 6 " in texts[name]
    assert "GPU" in texts["forms"] and labels.number(0.7025, 3) in texts["parts"] and "500" in texts["parts"]


def test_the_forms_that_are_drawn_are_of_one_variant() -> None:
    rows = pd.DataFrame({"variant": ["broadcast"] * 2 + ["none"] * 3, "form": ["eager", "onnx"] * 2 + ["homes"]})
    shown = latency.of_one_variant(rows)
    assert set(shown.variant) == {"none"} and shown.form.tolist() == ["eager", "onnx", "homes"]
    assert set(latency.of_one_variant(rows[rows.form != "homes"]).variant) == {"broadcast"}  # the one that is served


@pytest.mark.usefixtures("english_page")
@pytest.mark.parametrize("language", labels.LANGUAGES)
def test_tables_are_printed_in_the_language_in_use(language: str) -> None:
    labels.use(language)
    about = {"request_p50_ms_at_500": 0.642, "request_p99_ms_at_500": 1.054, "saturation_rps": 1783}
    table = latency.beside(178.1, about | {"rss_mb": 101.8, "ready_s": 0.55}, 208.9)
    spanish = language == "es"
    whole = {"≥ 1500", "2000–3000", "13\u202f400"} if spanish else {"≥ 1,500", "2,000–3,000", "13,400"}
    decimal = {"178,1", "0,64", "1783"} if spanish else {"178.1", "0.64", "1,783"}
    assert whole | decimal <= set(tables.printed(table).to_numpy().ravel())
    rates = tables.printed(RATES)
    assert set(rates.columns).isdisjoint(RATES) and labels.number(0.61, 2) in rates.to_numpy()
    text = latency.beside_caption("broadcast", MACHINE)
    assert labels.variant("broadcast") in text and "Some CPU, 6" in text


@pytest.mark.usefixtures("english_page")
def test_a_figure_lies_beside_its_data() -> None:
    _, draw, words = FIGURES["parts"]
    page.publish(lambda: draw(PARTS), lambda: words(PARTS), "parts", "test", PARTS)
    pd.testing.assert_frame_equal(pd.read_csv(paths.figures("test") / "parts.csv"), PARTS)


def metrics(**sums: tuple[float, int]) -> str:
    return "".join(
        f"maddpg_{name}_duration_seconds_sum {s}\nmaddpg_{name}_duration_seconds_count {n}\n"
        for name, (s, n) in sums.items()
    )


def test_the_parts_are_what_the_service_itself_measured_between_two_looks() -> None:
    before = metrics(prediction=(5.0, 100), inference=(4.0, 100))
    after = metrics(prediction=(5.4, 1100), inference=(4.25, 1100))
    found = latency.parts(before, after, whole_ms=0.6, client_ms=0.1)
    assert found == pytest.approx({"model": 0.25, "server": 0.15, "transport": 0.2, "client": 0.1})
    with pytest.raises(ZeroDivisionError):
        latency.parts(before, before, 0.6, 0.1)


def test_the_parts_of_a_request_are_those_at_500_a_second(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency.load, "saturation", lambda *_: (1.0, []))
    rates, split, about = latency.service(exported(tmp_path_factory), model("offline"), [100, 500], 0.5)
    assert set(split["rate"]) == {500} and (split.ms > 0).all()
    assert split.part.tolist() == ["model", "server", "transport", "client"]
    mean = split.ms[split.part != "client"].sum()
    at_500 = rates.set_index("rate").loc[500]
    assert 0.5 * at_500.p50_ms < mean < at_500.p99_ms and about["request_p50_ms_at_500"] == at_500.p50_ms


def test_the_highest_rate_is_one_that_is_held_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(url: str, body: bytes, rate: float, seconds: float, connections: int) -> latency.load.Load:
        late = rate > (300 if seconds > 2 else 400)  # at 346 a queue grows, too slowly to be seen in two seconds
        took = np.full(100, 0.2 if late and seconds > 2 else 0.01)
        return latency.load.Load(rate, took, Counter({200: 100}), 0.9 * rate if late else rate)

    monkeypatch.setattr(latency.load, "open_loop", load)
    highest, tried = latency.load.saturation("", b"", 2.0)
    assert highest == pytest.approx(288) and [round(one.rate) for one in tried] == [200, 240, 288, 346, 415]


@pytest.mark.parametrize("present", [True, False])
def test_the_gpu_is_measured_where_there_is_one(present: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    assert latency.devices() == ["cpu", "cuda"][: 1 + present]


def test_every_device_has_its_forms(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "devices", lambda: ["cpu", "cpu:0"])  # stands for a GPU
    table = latency.forms(exported(tmp_path_factory), model("offline", torch.float32), times=5, compiled=False)
    assert table.form.tolist() == ["eager", "eager_cpu:0", "onnx"] and (table.p50_us > 0).all()
    assert latency.form_name("eager_cpu:0") != latency.form_name("eager")


def test_the_image_is_counted_as_it_is_built(tmp_path: Path) -> None:
    for name in (".dockerignore", "Dockerfile", "requirements-serve.lock"):
        shutil.copy(paths.ROOT / name, tmp_path)
    runs = tmp_path / "results/thesis/runs/official/marlisa/default"
    inside = [tmp_path / "models/broadcast/policy.onnx", tmp_path / "thesis_lib/a.py", runs / "seed_0/kpis.csv"]
    outside = [
        tmp_path / "models/broadcast/best.pt",
        tmp_path / "thesis_lib/__pycache__/a.pyc",
        runs / "seed_1/kpis.csv",
    ]
    for file in (*inside, *outside):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(1_000_000))
    table = latency.image(tmp_path).set_index("part").MB
    assert {part: table[part] for part in ("results/thesis/runs", "models", "thesis_lib")} == {
        "results/thesis/runs": 1.0, "models": 1.0, "thesis_lib": 1.0,
    }  # fmt: skip
    assert table.index[-1].startswith("python:3.11") and pd.isna(table.iloc[-1])
    # pip compiles what it installs.
    numpy = sum(Path(str(f.locate())).stat().st_size for f in latency.distribution("numpy").files if f.suffix == ".pyc")
    plain = sum(
        Path(str(f.locate())).stat().st_size
        for name in re.findall(r"^([\w.-]+)==", (tmp_path / "requirements-serve.lock").read_text(), re.MULTILINE)
        for f in latency.distribution(name).files or ()
        if f.suffix != ".pyc" and Path(str(f.locate())).is_file()
    )
    assert numpy > 1e6 and table.iloc[0] * 1e6 > plain + numpy
