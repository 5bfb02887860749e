"""How long a decision takes, and where the time goes: the measurements and figures of notebook 05.

Times are of this machine, in this run, with whatever else it was doing; what compares are the lines of one table.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import httpx
import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from thesis_lib.analysis import labels
from thesis_lib.analysis.learner import CONTROLLER
from thesis_lib.analysis.page import TEXT_WIDTH
from thesis_lib.community.model import Community
from thesis_lib.maddpg.training import load_policy
from thesis_lib.provenance import cpu_name
from thesis_lib.serving import export, load
from thesis_lib.serving.policy import ServedPolicy, open_graph

THREADS = 1  # of one inference, of `forms` and of the service
WORDS = {
    "eager": ("torch, tal cual", "torch, eager"),
    "compiled": ("torch, compilado", "torch, compiled"),
    "onnx": ("un grafo ONNX", "one ONNX graph"),
    "homes": ("un grafo por vivienda", "one graph a home"),
    "time": ("Tiempo por decisión (µs)", "Time of a decision (µs)"),
    "rate": ("Tasa de peticiones (1/s)", "Rate of requests (1/s)"),
    "answer": ("Tiempo de respuesta (ms)", "Answer time (ms)"),
    "model": ("modelo", "model"),
    "server": ("servidor: leer y escribir JSON", "server: reading and writing JSON"),
    "transport": ("HTTP, interfaz de bucle local (loopback) y espera", "HTTP, loopback and waiting"),
    "client": ("cliente: escribir y leer JSON", "client: writing and reading JSON"),
    "p50": ("mediana", "median"),
    "p99": ("percentil 99", "99th percentile"),
    "forms.caption": (
        "Mediana (y percentil 99) del tiempo de una decisión de las {homes} viviendas, por forma del modelo: {forms}.",
        "Median (and 99th percentile) of the time of a decision for the {homes} homes, by form of the model: {forms}.",
    ),
    "rates.caption": (
        "Tiempo de respuesta según la tasa de peticiones (bucle abierto: cuenta desde que la petición debía salir). "
        "Con {rate} por segundo, mediana {p50}{space}ms y percentil 99 {p99}{space}ms; con {top}, percentil 99 "
        "{last}{space}ms.",
        "Answer time by rate of requests (open loop: it counts from when a request was due). At {rate} a second, "
        "median {p50}{space}ms and 99th percentile {p99}{space}ms; at {top}, 99th percentile {last}{space}ms.",
    ),
    "parts.caption": (
        "Dónde va el tiempo de una petición, con {rate} por segundo (medias, en total {total}{space}ms): {parts}.",
        "Where the time of a request goes, at {rate} a second (means, {total}{space}ms in all): {parts}.",
    ),
    "beside.caption": (
        "El servicio junto a sus objetivos, que son para dos núcleos, y a lo que el sistema anterior dijo de sí, que "
        "no se midió aquí.",
        "The service beside its targets, which are for two cores, and what the earlier system said of itself, which "
        "was not measured here.",
    ),
    "of": (
        " {policy}; {cpu}, {cores} núcleos, hilos por inferencia: {threads}.",
        " {policy}; {cpu}, {cores} cores, threads of an inference: {threads}.",
    ),
}
labels.TEXT.update(
    {
        "table.rate": ("Peticiones (1/s)", "Requests (1/s)"),
        "table.achieved": ("Contestadas (1/s)", "Answered (1/s)"),
        "table.p50_ms": ("Mediana (ms)", "Median (ms)"),
        "table.p99_ms": ("Percentil 99 (ms)", "99th percentile (ms)"),
        "table.failed": ("Fallidas", "Failed"),
        "table.here": ("Aquí", "Here"),
        "table.target": ("Objetivo", "Target"),
        "table.earlier": ("Sistema anterior", "Earlier system"),
        "figure.inference": ("Inferencia, mediana (µs)", "Inference, median (µs)"),
        "figure.p50_at_500": ("Petición a 500/s, mediana (ms)", "Request at 500/s, median (ms)"),
        "figure.p99_at_500": ("Petición a 500/s, percentil 99 (ms)", "Request at 500/s, 99th percentile (ms)"),
        "figure.highest_rate": ("Tasa máxima (1/s)", "Highest rate (1/s)"),
        "figure.memory": ("Memoria residente (MB)", "Resident memory (MB)"),
        "figure.ready": ("Listo tras (s)", "Ready after (s)"),
        "figure.image": (
            "Imagen sin su base; la anterior, con ella (MB)",
            "Image without its base; the earlier one with it (MB)",
        ),
    }
)


def word(key: str, **values: object) -> str:
    """A label in the language in use. Raises KeyError."""
    spanish, english = WORDS[key]
    return (spanish if labels.language() == "es" else english).format(**values)


def machine() -> dict[str, object]:
    """What the times are of, for the captions: cpu, cores, threads (of one inference). Never raises."""
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "threads": THREADS}


def _of(variant: str, where: Mapping[str, object]) -> str:
    return word("of", policy=labels.controller(CONTROLLER, variant), **where)


def devices() -> list[str]:
    """What the network in torch is timed on: the CPU, and the GPU where there is one. Never raises."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def form_name(form: str) -> str:
    """A form of `forms` in words; a GPU's is named after it, as ``eager_cuda``. Raises KeyError."""
    name, _, device = form.partition("_")
    return f"{word(name)}, GPU" if device else word(name)


def timed(work: Callable[[], Any], times: int) -> dict[str, float]:
    """Median and 99th percentile (µs) of some work; a fifth as many runs before, uncounted. Never raises by itself."""
    for _ in range(max(times // 5, 2)):
        work()
    taken = np.empty(times)
    for index in range(times):
        begun = time.perf_counter()
        work()
        taken[index] = time.perf_counter() - begun
    p50, p99 = np.quantile(taken, [0.5, 0.99]) * 1e6
    return {"p50_us": round(float(p50), 1), "p99_us": round(float(p99), 1)}


def observed(policy: ServedPolicy, community: Community, rows: Sequence[int]) -> NDArray[np.float32]:
    """What the homes see when an episode begins at each of the rows, (rows, N). Raises ValueError for other rows."""
    from thesis_lib.community.observations import Observer

    observer = Observer(community)
    seen = torch.cat([observer(community.reset(1, row)) for row in rows])
    flat: NDArray[np.float32] = export.flat(seen, policy.observations).astype(np.float32)
    return flat


def forms(folder: Path, community: Community, times: int, compiled: bool) -> pd.DataFrame:
    """One decision of the whole community, one thread: torch, ONNX, and a graph a home where nothing is communicated.

    A GPU's time holds the way of the observations to it and of the actions back.

    Args:
        folder: of an exported model.
        community: it is for.
        times: runs of each.
        compiled: with torch.compile too; needs a C++ compiler.

    Returns:
        Data frame with form (on a GPU with its device behind), p50_us, p99_us.

    Raises:
        ModelError, CheckpointError: see `ServedPolicy`, `load_policy`.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    served = ServedPolicy(folder / "policy.onnx", THREADS)
    flat = observed(served, community, [4000])
    width = max(served.sizes)
    padded = torch.zeros(1, len(served.homes), width)
    ends = np.cumsum(served.sizes)
    parts = np.split(flat, ends[:-1], axis=1)
    for home, part in enumerate(parts):
        padded[0, home, : part.shape[1]] = torch.from_numpy(part[0])
    rows = []
    try:
        for device in devices():
            policy = load_policy(folder / "best.pt", community).policy.to(device)
            kinds = {"eager": policy} | ({"compiled": torch.compile(policy, dynamic=False)} if compiled else {})
            for name, network in kinds.items():

                @torch.inference_mode()
                def decide(network: Any = network, device: str = device) -> torch.Tensor:
                    actions: torch.Tensor = network(padded.to(device)).cpu()
                    return actions

                form = name if device == "cpu" else f"{name}_{device}"
                rows.append({"form": form, **timed(decide, times)})
    finally:
        torch.set_num_threads(threads)
    rows.append({"form": "onnx", **timed(lambda: served.act(flat), times)})
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():  # of the package onnxruntime-gpu only
        graph = onnxruntime.InferenceSession(folder / "policy.onnx", providers=["CUDAExecutionProvider"])
        rows.append({"form": "onnx_cuda", **timed(lambda: graph.run(None, {"observations": flat}), times)})
    homes = [folder / "homes" / f"{name}.onnx" for name in served.homes]
    if all(file.is_file() for file in homes):
        sessions = [open_graph(file.read_bytes(), THREADS) for file in homes]

        def each() -> None:
            for session, part in zip(sessions, parts, strict=True):
                session.run(None, {"observations": part})

        rows.append({"form": "homes", **timed(each, times)})
    return pd.DataFrame(rows)


def batches(
    folder: Path, community: Community, sizes: Sequence[int], threads: Sequence[int], times: int
) -> pd.DataFrame:
    """Many decisions at once, with more threads.

    Returns:
        Data frame with threads, batch, p50_us, p99_us, us_per_decision.

    Raises:
        ModelError: see `ServedPolicy`.
    """
    rows = []
    for count in threads:
        served = ServedPolicy(folder / "policy.onnx", count)
        one = observed(served, community, [4000])
        for size in sizes:
            many = np.repeat(one, size, 0)
            runs = max(times // size, times // 4)  # a 99th percentile takes hundreds
            found = timed(lambda served=served, many=many: served.act(many), runs)  # type: ignore[misc]
            rows.append({"threads": count, "batch": size, **found, "us_per_decision": round(found["p50_us"] / size, 2)})
    return pd.DataFrame(rows)


def sizes(folder: Path) -> pd.DataFrame:
    """Size of each file of an exported model, kB; the homes' graphs together. Raises OSError."""
    homes = list((folder / "homes").glob("*.onnx"))
    rows = [{"file": file.name, "kB": file.stat().st_size / 1e3} for file in sorted(folder.iterdir()) if file.is_file()]
    if homes:
        rows.append({"file": f"homes/ ({len(homes)} files)", "kB": sum(file.stat().st_size for file in homes) / 1e3})
    return pd.DataFrame(rows).round(1)


def in_context(root: Path, name: str) -> bool:
    """Whether ``.dockerignore`` lets a path below ``root`` into the build; the last line that matches decides.

    Raises:
        OSError: there is no such file.
    """
    allowed, parts = True, Path(name).parts
    heads = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    for line in (root / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            shapes = [pattern, pattern.removeprefix("**/")]
            tails = parts if pattern.startswith("**/") else ()
            if any(fnmatch.fnmatch(head, shape) for head in [*heads, *tails] for shape in shapes):
                allowed = line.startswith("!")
    return allowed


def context(root: Path, name: str) -> list[Path]:
    """The files that the build sees at or below a path of ``root``. Raises OSError."""
    place = root / name
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    return [file for file in files if in_context(root, file.relative_to(root).as_posix())]


def image(root: Path) -> pd.DataFrame:
    """What the image `serve` holds, MB, as far as it can be known without a container engine.

    Packages are those of requirements-serve.lock as pip left them here, compiled files included; folders are those that
    the Dockerfile's target copies, without what .dockerignore keeps out. The base's size is an engine's to tell.

    Returns:
        Data frame with part, MB; the packages together, each folder, then the base (NaN).

    Raises:
        PackageNotFoundError: a package of the lock is not installed here.
        OSError: a file of the build is missing.
    """
    lock = (root / "requirements-serve.lock").read_text(encoding="utf-8")
    names = re.findall(r"^([A-Za-z0-9_.-]+)==", lock, re.MULTILINE)
    files = [Path(str(file.locate())) for name in names for file in distribution(name).files or ()]
    recipe = (root / "Dockerfile").read_text(encoding="utf-8")
    stage = recipe.split("\nFROM base AS serve\n")[1].split("\nFROM ")[0]
    base = re.findall(r"^FROM (\S+) AS base$", recipe, re.MULTILINE)[0]
    rows = [{"part": f"{len(names)} packages", "MB": _megabytes(file for file in files if file.is_file())}]
    rows += [
        {"part": name, "MB": _megabytes(context(root, name))}
        for name in re.findall(r"^COPY (\S+) \./", stage, re.MULTILINE)
    ]
    return pd.DataFrame([*rows, {"part": f"{base}, the base", "MB": float("nan")}]).round(1)


def _megabytes(files: Iterable[Path]) -> float:
    return sum(file.stat().st_size for file in files) / 1e6


def beside(inference_us: float, about: Mapping[str, float], image_mb: float) -> pd.DataFrame:
    """The service beside its targets (2 CPU cores) and what the earlier system said of itself.

    Args:
        inference_us: median of one decision.
        about: of `service`, with 500 among its rates.
        image_mb: of `image`, without the base.

    Returns:
        Data frame with figure, here, target, earlier; the latter two are texts.

    Raises:
        KeyError: 500 was not among the rates.
    """
    rows = [
        ("inference", inference_us, "≤ 250", "–"),
        ("p50_at_500", about["request_p50_ms_at_500"], "≤ 1", "50–80"),
        ("p99_at_500", about["request_p99_ms_at_500"], "≤ 5", "–"),
        ("highest_rate", about["saturation_rps"], "≥ 1500", "12–20"),
        ("memory", about["rss_mb"], "≤ 200", "2000–3000"),
        ("ready", about["ready_s"], "≤ 2", "15–20"),
        ("image", image_mb, "≤ 350", "13400"),
    ]
    return pd.DataFrame(rows, columns=["figure", "here", "target", "earlier"])


def beside_caption(variant: str, where: Mapping[str, object]) -> str:
    """The caption of `beside`; ``variant`` is the one served, ``where`` a `machine`. Never raises."""
    return word("beside.caption") + _of(variant, where)


def service(
    folder: Path, community: Community, rates: Sequence[float], seconds: float
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, float]]:
    """The service under load, in a process of its own.

    Args:
        folder: of an exported model.
        community: it is for.
        rates: requests a second.
        seconds: at each rate.

    Returns:
        Answer times by rate (rate, achieved, p50_ms, p99_ms, failed), the rates of `load.saturation` after those asked
        for; the parts of a request at the rate nearest to 500 (rate, part, ms; means), server and model apart where the
        service measures its inferences; ready_s, rss_mb, saturation_rps, and request_p50_ms_at_500 and
        request_p99_ms_at_500 where 500 is among the rates.

    Raises:
        RuntimeError: the service did not start.
        ModelError: see `ServedPolicy`.
    """
    served = ServedPolicy(folder / "policy.onnx")
    flat = observed(served, community, [4000])
    lists = [part[0].tolist() for part in np.split(flat, np.cumsum(served.sizes)[:-1], axis=1)]
    body = load.request_body(lists)
    about: dict[str, float] = {}
    found: list[load.Load] = []
    apart = min(rates, key=lambda rate: abs(rate - 500))
    with load.served(folder, threads=THREADS) as (url, ready, _):
        load.open_loop(url, body, min(rates), min(seconds, 1.0))
        answer = httpx.post(f"{url}/predict", content=body).content
        for rate in rates:
            before = httpx.get(f"{url}/metrics").text
            found.append(load.open_loop(url, body, rate, seconds))
            if rate == apart:
                client = _mean_ms(lambda: (load.request_body(lists), json.loads(answer)), 500)
                whole = float(found[-1].seconds.mean()) * 1e3
                split = parts(before, httpx.get(f"{url}/metrics").text, whole, client)
            if rate == 500:
                about["request_p50_ms_at_500"] = round(found[-1].quantile(0.5), 3)
                about["request_p99_ms_at_500"] = round(found[-1].quantile(0.99), 3)
        highest, tried = load.saturation(url, body, min(seconds, 2.0))
        memory = load.resident_mb(url)
    about |= {"saturation_rps": round(highest), "ready_s": round(ready, 2), "rss_mb": round(memory, 1)}
    rows = [
        {
            "rate": round(each.rate),
            "achieved": round(each.achieved, 1),
            "p50_ms": round(each.quantile(0.5), 3),
            "p99_ms": round(each.quantile(0.99), 3),
            "failed": each.failed,
        }
        for each in (*found, *(one for one in tried if one.rate > max(rates)))
    ]
    table = pd.DataFrame({"rate": round(apart), "part": list(split), "ms": [*split.values()]})
    return pd.DataFrame(rows), table.round(4), about


def parts(before: str, after: str, whole_ms: float, client_ms: float) -> dict[str, float]:
    """Where the mean time of the requests between two looks at /metrics went, ms.

    Args:
        before, after: what /metrics answered.
        whole_ms: mean from a request's being due to its answer.
        client_ms: mean of writing a request and reading an answer, which ``whole_ms`` does not hold.

    Returns:
        model, server (JSON), transport and client.

    Raises:
        ZeroDivisionError: no prediction was answered in between.
    """
    handled = _mean_between(before, after, "maddpg_prediction_duration_seconds")
    model = _mean_between(before, after, "maddpg_inference_duration_seconds")
    return {"model": model, "server": handled - model, "transport": whole_ms - handled, "client": client_ms}


def _mean_between(before: str, after: str, name: str) -> float:
    """Mean of what a histogram of seconds counted in between, ms."""
    sums = []
    for text in (before, after):
        for part in ("sum", "count"):
            value = re.search(rf"^{name}_{part} (\S+)$", text, re.MULTILINE)
            sums.append(float(value[1]) if value else 0.0)
    return (sums[2] - sums[0]) / (sums[3] - sums[1]) * 1e3


def _mean_ms(work: Callable[[], Any], times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - begun) / times * 1e3


def of_one_variant(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one variant, so that forms alone differ: of the first of those that have most. Never raises."""
    chosen = table.groupby("variant", sort=False).size().idxmax()
    return table[table.variant == chosen].reset_index(drop=True)


def forms_figure(table: pd.DataFrame) -> Figure:
    """Bars of `forms`: median, with the 99th percentile as a mark. Never raises."""
    fig, ax = plt.subplots(figsize=(TEXT_WIDTH, 0.8 + 0.4 * len(table)))
    names = [form_name(form) for form in table.form]
    ax.barh(names, table.p50_us, color="0.35", label=word("p50"))
    ax.plot(table.p99_us, names, "D", color="#d55e00", label=word("p99"))
    ax.invert_yaxis()
    ax.set_xlabel(word("time"))
    ax.xaxis.set_major_formatter(labels.Numbers())
    ax.legend(loc="best")
    return fig


def forms_caption(table: pd.DataFrame, homes: int, where: Mapping[str, object]) -> str:
    """The caption of `forms_figure`, with its numbers; of one variant, ``where`` a `machine`. Never raises."""
    numbers = (f"{form_name(row.form)} {_micro(row.p50_us)} ({_micro(row.p99_us)})" for row in table.itertuples())
    return word("forms.caption", homes=homes, forms="; ".join(numbers)) + _of(table.variant.iloc[0], where)


def _micro(value: float) -> str:
    return f"{labels.number(value, 0)}{labels.SPACE}µs"


def rates_figure(table: pd.DataFrame) -> Figure:
    """Lines of answer times by rate, both from `service`. Never raises."""
    fig, ax = plt.subplots(figsize=(TEXT_WIDTH, 2.8))
    for column, marker, key in (("p50_ms", "o-", "p50"), ("p99_ms", "D--", "p99")):
        ax.plot(table.rate, table[column], marker, label=word(key))
    ax.set_xlabel(word("rate"))
    ax.set_ylabel(word("answer"))
    ax.set_yscale("log")
    ax.xaxis.set_major_formatter(labels.Numbers())
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(labels.Numbers()))  # each tick with the decimals that it needs
    ax.legend()
    return fig


def rates_caption(table: pd.DataFrame, variant: str, where: Mapping[str, object]) -> str:
    """The caption of `rates_figure`, with the numbers nearest to 500 requests a second and at the end.

    ``variant`` is the one served, ``where`` a `machine`. Never raises.
    """
    near, last = table.loc[(table.rate - 500).abs().idxmin()], table.iloc[-1]
    numbers = {"p50": near.p50_ms, "p99": near.p99_ms, "last": last.p99_ms}
    text = word(
        "rates.caption",
        space=labels.SPACE,
        rate=labels.number(near.rate, 0),
        top=labels.number(last.rate, 0),
        **{name: labels.number(value, 2) for name, value in numbers.items()},
    )
    return text + _of(variant, where)


def parts_figure(table: pd.DataFrame) -> Figure:
    """One stacked bar of the parts of a request, from `service`. Never raises."""
    fig, ax = plt.subplots(figsize=(TEXT_WIDTH, 1.8))
    left = 0.0
    for (_, line), color in zip(table.iterrows(), ("0.2", "0.5", "0.75", "1.0"), strict=True):
        ax.barh([""], [line.ms], left=left, color=color, edgecolor="black", label=word(line.part))
        left += line.ms
    ax.set_xlabel(word("answer"))
    ax.xaxis.set_major_formatter(labels.Numbers())
    fig.legend(ncols=2, loc="outside upper center")
    return fig


def parts_caption(table: pd.DataFrame, variant: str, where: Mapping[str, object]) -> str:
    """The caption of `parts_figure`, with its numbers; arguments as of `rates_caption`. Never raises."""
    numbers = (f"{word(row.part)} {labels.number(row.ms, 3)}{labels.SPACE}ms" for row in table.itertuples())
    text = word(
        "parts.caption",
        space=labels.SPACE,
        rate=labels.number(table.rate.iloc[0], 0),
        total=labels.number(table.ms.sum(), 3),
        parts="; ".join(numbers),
    )
    return text + _of(variant, where)
