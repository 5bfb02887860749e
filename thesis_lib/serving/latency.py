"""How long a decision takes, and where the time goes: the measurements and figures of notebook 05.

Times are of this machine, in this run, with whatever else it was doing; what compares are the lines of one table.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import httpx
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from thesis_lib.analysis import labels
from thesis_lib.analysis.figures import TEXT_WIDTH
from thesis_lib.community.model import Community
from thesis_lib.maddpg.training import load_policy
from thesis_lib.serving import export, load
from thesis_lib.serving.policy import ServedPolicy, open_graph

WORDS = {
    "eager": ("torch, tal cual", "torch, eager"),
    "compiled": ("torch, compilado", "torch, compiled"),
    "onnx": ("un grafo ONNX", "one ONNX graph"),
    "homes": ("un grafo por vivienda", "one graph a home"),
    "time": ("tiempo por decisión (µs)", "time of a decision (µs)"),
    "rate": ("peticiones por segundo", "requests a second"),
    "answer": ("tiempo de respuesta (ms)", "answer time (ms)"),
    "model": ("modelo", "model"),
    "server": ("servidor: leer y escribir JSON", "server: reading and writing JSON"),
    "transport": ("HTTP, red local y cliente", "HTTP, loopback and client"),
    "p50": ("mediana", "median"),
    "p99": ("percentil 99", "99th percentile"),
    "forms.caption": (
        "Mediana y percentil 99 del tiempo de una decisión de las {homes} viviendas, por forma del modelo.",
        "Median and 99th percentile of the time of one decision for the {homes} homes, by form of the model.",
    ),
    "rates.caption": (
        "Tiempo de respuesta según la tasa de peticiones (bucle abierto: cuenta desde que la petición debía salir).",
        "Answer time by rate of requests (open loop: it counts from when a request was due).",
    ),
    "parts.caption": (
        "Dónde va el tiempo de una petición (medias).",
        "Where the time of a request goes (means).",
    ),
}


def word(key: str, **values: object) -> str:
    """A label in the language in use. Raises KeyError."""
    spanish, english = WORDS[key]
    return (spanish if labels.language() == "es" else english).format(**values)


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

    Args:
        folder: of an exported model.
        community: it is for.
        times: runs of each.
        compiled: with torch.compile too; needs a C++ compiler.

    Returns:
        Data frame with form, p50_us, p99_us.

    Raises:
        ModelError, CheckpointError: see `ServedPolicy`, `load_policy`.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    served = ServedPolicy(folder / "policy.onnx")
    flat = observed(served, community, [4000])
    policy = load_policy(folder / "best.pt", community).policy
    width = max(served.sizes)
    padded = torch.zeros(1, len(served.homes), width)
    ends = np.cumsum(served.sizes)
    parts = np.split(flat, ends[:-1], axis=1)
    for home, part in enumerate(parts):
        padded[0, home, : part.shape[1]] = torch.from_numpy(part[0])
    rows = []
    try:
        with torch.inference_mode():
            rows.append({"form": "eager", **timed(lambda: policy(padded), max(times // 10, 5))})
            if compiled:
                faster = torch.compile(policy, dynamic=False)
                rows.append({"form": "compiled", **timed(lambda: faster(padded), max(times // 10, 5))})
    finally:
        torch.set_num_threads(threads)
    rows.append({"form": "onnx", **timed(lambda: served.act(flat), times)})
    homes = [folder / "homes" / f"{name}.onnx" for name in served.homes]
    if all(file.is_file() for file in homes):
        sessions = [open_graph(file.read_bytes()) for file in homes]

        def each() -> None:
            for session, part in zip(sessions, parts, strict=True):
                session.run(None, {"observations": part})

        rows.append({"form": "homes", **timed(each, max(times // 5, 5))})
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
            found = timed(lambda served=served, many=many: served.act(many), max(times // size, 5))  # type: ignore[misc]
            rows.append({"threads": count, "batch": size, **found, "us_per_decision": round(found["p50_us"] / size, 2)})
    return pd.DataFrame(rows)


def sizes(folder: Path) -> pd.DataFrame:
    """Size of each file of an exported model, kB; the homes' graphs together. Raises OSError."""
    homes = list((folder / "homes").glob("*.onnx"))
    rows = [{"file": file.name, "kB": file.stat().st_size / 1e3} for file in sorted(folder.iterdir()) if file.is_file()]
    if homes:
        rows.append({"file": f"homes/ ({len(homes)} files)", "kB": sum(file.stat().st_size for file in homes) / 1e3})
    return pd.DataFrame(rows).round(1)


def image(root: Path) -> pd.DataFrame:
    """What the image `serve` holds beside its base, MB, as far as it can be known without a container engine.

    Packages are those of requirements-serve.lock as they are installed here; folders are those that the Dockerfile's
    target copies.

    Returns:
        Data frame with part, MB; the packages together, then each folder.

    Raises:
        PackageNotFoundError: a package of the lock is not installed here.
    """
    lock = (root / "requirements-serve.lock").read_text(encoding="utf-8")
    names = re.findall(r"^([A-Za-z0-9_.-]+)==", lock, re.MULTILINE)
    files = [Path(str(file.locate())) for name in names for file in distribution(name).files or ()]
    stage = (root / "Dockerfile").read_text(encoding="utf-8").split("\nFROM base AS serve\n")[1].split("\nFROM ")[0]
    copied = re.findall(r"^COPY (\S+) \./", stage, re.MULTILINE)
    rows = [{"part": f"{len(names)} packages", "MB": _megabytes(files)}]
    rows += [{"part": name, "MB": _megabytes((root / name).rglob("*"))} for name in copied]
    return pd.DataFrame(rows).round(1)


def _megabytes(files: Iterable[Path]) -> float:
    return sum(file.stat().st_size for file in files if file.is_file() and "__pycache__" not in file.parts) / 1e6


def beside(inference_us: float, about: Mapping[str, float], image_mb: float) -> pd.DataFrame:
    """The service beside its targets (2 CPU cores) and what the earlier system said of itself.

    Args:
        inference_us: median of one decision.
        about: of `service`, with 500 among its rates.
        image_mb: of `image`, without the base.

    Returns:
        Data frame with what, here, target, earlier.

    Raises:
        KeyError: 500 was not among the rates.
    """
    rows = [
        ("inference, median (µs)", inference_us, "<= 250", ""),
        ("request at 500/s, median (ms)", about["request_p50_ms_at_500"], "<= 1", "50 to 80"),
        ("request at 500/s, 99th percentile (ms)", about["request_p99_ms_at_500"], "<= 5", ""),
        ("highest rate (1/s)", about["saturation_rps"], ">= 1500", "12 to 20"),
        ("resident memory (MB)", about["rss_mb"], "<= 200", "2000 to 3000"),
        ("ready after (s)", about["ready_s"], "<= 2", "15 to 20"),
        ("image without its base (MB)", image_mb, "<= 350 with it", "13400"),
    ]
    return pd.DataFrame(rows, columns=["what", "here", "target", "earlier"])


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
        for; the parts of a request at the lowest rate (part, ms; means); ready_s, rss_mb, saturation_rps, and
        request_p50_ms_at_500 and request_p99_ms_at_500 where 500 is among the rates.

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
    with load.served(folder) as (url, ready, _):
        load.open_loop(url, body, min(rates), min(seconds, 1.0))
        before = _handled(url)
        for rate in rates:
            found.append(load.open_loop(url, body, rate, seconds))
            if rate == rates[0]:
                count, total = (late - early for late, early in zip(_handled(url), before, strict=True))
                handled, whole = total / count * 1e3, float(found[0].seconds.mean()) * 1e3
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
    model = float(load.inference_seconds(served, flat, 500).mean()) * 1e3
    parts = {"model": model, "server": handled - model, "transport": whole - handled}
    return pd.DataFrame(rows), pd.DataFrame({"part": list(parts), "ms": [*parts.values()]}).round(4), about


def _handled(url: str) -> tuple[float, float]:
    """How many predictions the service has answered, and the seconds it took over them."""
    text = httpx.get(f"{url}/metrics").text
    name = "maddpg_prediction_duration_seconds"
    values = [re.search(rf"^{name}_{part} (\S+)$", text, re.MULTILINE) for part in ("count", "sum")]
    count, total = (float(value[1]) for value in values if value)
    return count, total


def forms_figure(table: pd.DataFrame) -> Figure:
    """Bars of `forms`: median, with the 99th percentile as a mark. Never raises."""
    fig, ax = plt.subplots(figsize=(TEXT_WIDTH, 0.8 + 0.4 * len(table)))
    names = [word(form) for form in table.form]
    ax.barh(names, table.p50_us, color="0.35", label=word("p50"))
    ax.plot(table.p99_us, names, "D", color="#d55e00", label=word("p99"))
    ax.invert_yaxis()
    ax.set_xlabel(word("time"))
    ax.legend(loc="best")
    return fig


def rates_figure(table: pd.DataFrame) -> Figure:
    """Lines of answer times by rate, both from `service`. Never raises."""
    fig, ax = plt.subplots(figsize=(TEXT_WIDTH, 2.8))
    for column, marker, key in (("p50_ms", "o-", "p50"), ("p99_ms", "D--", "p99")):
        ax.plot(table.rate, table[column], marker, label=word(key))
    ax.set_xlabel(word("rate"))
    ax.set_ylabel(word("answer"))
    ax.set_yscale("log")
    ax.legend()
    return fig


def parts_figure(table: pd.DataFrame) -> Figure:
    """One stacked bar of the parts of a request, from `service`. Never raises."""
    fig, ax = plt.subplots(figsize=(TEXT_WIDTH, 1.6))
    left = 0.0
    for (_, line), color in zip(table.iterrows(), ("0.25", "0.55", "0.8"), strict=True):
        ax.barh([""], [line.ms], left=left, color=color, edgecolor="black", label=word(line.part))
        left += line.ms
    ax.set_xlabel(word("answer"))
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return fig
