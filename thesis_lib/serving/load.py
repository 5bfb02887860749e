"""Load on a service, open loop: requests leave when they are due, whether or not the ones before were answered.

A client that waits for its answer before it asks again slows down with the service and hides how long others would
have waited. Here a request's time counts from when it was due. Linux and a second core are assumed for good figures:
the client keeps a core busy so as not to be late itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from thesis_lib.serving.policy import ServedPolicy


@dataclass
class Load:
    """What came of a load: seconds from due to answered (n,), statuses (0: connection lost), achieved rate (1/s)."""

    rate: float
    seconds: NDArray[np.float64]
    statuses: Counter[int] = field(default_factory=Counter)
    achieved: float = 0.0

    def quantile(self, share: float) -> float:
        """Quantile of the answer times, ms; NaN if there was no answer."""
        return float(np.quantile(self.seconds, share) * 1e3) if len(self.seconds) else float("nan")

    @property
    def failed(self) -> int:
        """Requests without a 200."""
        return sum(count for status, count in self.statuses.items() if status != 200)


class _Connection(asyncio.Protocol):
    """One connection kept open, one request at a time."""

    def __init__(self, free: deque[_Connection], waiting: deque[float], request: bytes, load: Load, took: list[float]):
        self.free, self.waiting, self.request, self.load, self.took = free, waiting, request, load, took
        self.transport: asyncio.Transport | None = None
        self.due = 0.0
        self.buffer = b""
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.free.append(self)

    def send(self, due: float) -> None:
        assert self.transport is not None
        self.due, self.busy = due, True
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if len(rest) < length:
            return
        status = int(head[9:12])
        self.load.statuses[status] += 1
        if status == 200:
            self.took.append(time.perf_counter() - self.due)
        self.buffer, self.busy = b"", False
        if self.waiting:
            self.send(self.waiting.popleft())
        else:
            self.free.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self.busy:
            self.load.statuses[0] += 1
        self.busy = False
        if self in self.free:
            self.free.remove(self)


async def _open_loop(host: str, port: int, request: bytes, rate: float, seconds: float, connections: int) -> Load:
    loop = asyncio.get_running_loop()
    free: deque[_Connection] = deque()
    waiting: deque[float] = deque()
    took: list[float] = []
    load = Load(rate, np.zeros(0))
    every = [
        (await loop.create_connection(lambda: _Connection(free, waiting, request, load, took), host, port))[1]
        for _ in range(connections)
    ]
    number, begun = round(rate * seconds), time.perf_counter()
    for index in range(number):
        due = begun + index / rate
        while (left := due - time.perf_counter()) > 0:
            # A timer of the event loop is up to a millisecond late; below that, look again and again.
            await asyncio.sleep(left - 0.002 if left > 0.003 else 0)
        if free:
            free.popleft().send(due)
        else:
            waiting.append(due)
    limit = time.perf_counter() + 10
    while (waiting or any(each.busy for each in every)) and time.perf_counter() < limit:
        await asyncio.sleep(0.001)
    load.achieved = len(took) / max(time.perf_counter() - begun, 1e-9)
    load.statuses[0] += number - load.statuses.total()
    for each in every:
        if each.transport:
            each.transport.close()
    load.seconds = np.array(took)
    return load


def open_loop(url: str, body: bytes, rate: float, seconds: float, connections: int = 16) -> Load:
    """Send ``rate`` predictions a second for so many seconds.

    Args:
        url: of the service.
        body: of each request.
        rate: 1/s.
        seconds: s.
        connections: kept open; more requests than that wait in the client, and their time counts.

    Raises:
        OSError: nobody listens there.
    """
    place = httpx.URL(url)
    head = (
        f"POST /predict HTTP/1.1\r\nHost: {place.host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    job = _open_loop(place.host, place.port or 80, request, rate, seconds, connections)
    with ThreadPoolExecutor(1) as apart:  # a notebook's own thread has an event loop already
        return apart.submit(asyncio.run, job).result()


def saturation(url: str, body: bytes, seconds: float = 2.0, bound_ms: float = 100.0) -> tuple[float, list[Load]]:
    """The highest rate (1/s) that the service holds, in steps of a fifth.

    It holds a rate if, in ``seconds`` and in five times as long, all requests are answered as fast as they come and
    with a 99th percentile within ``bound_ms``: time finds out a queue that grows.

    Returns:
        The rate achieved there (0 if even 200/s is too much), and every step tried.

    Raises:
        OSError: nobody listens there.
    """

    def held(load: Load) -> bool:
        return not load.failed and load.quantile(0.99) <= bound_ms and load.achieved >= 0.99 * load.rate

    rate, tried = 200.0, []
    while rate < 20_000:
        tried.append(open_loop(url, body, rate, seconds, 32))
        if not held(tried[-1]):
            break
        rate *= 1.2
    for load in filter(held, reversed(tried)):
        longer = open_loop(url, body, load.rate, 5 * seconds, 32)
        if held(longer):
            return longer.achieved, tried
    return 0.0, tried


@contextmanager
def served(folder: Path, **settings: Any) -> Iterator[tuple[str, float, subprocess.Popen[bytes]]]:
    """A service of a model in a process of its own: its URL, the seconds until it was ready, and the process.

    Args:
        folder: with policy.onnx.
        **settings: of `app.Settings`.

    Raises:
        RuntimeError: it ended, or was not ready within a minute.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    others = {name: value for name, value in os.environ.items() if not name.startswith("THESIS_")}  # such as a token
    environment = others | {f"THESIS_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "thesis_lib.serving.app", "--host", "127.0.0.1"]
    begun = time.perf_counter()
    process = subprocess.Popen([*command, "--port", str(port), "--model", str(folder)], env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            try:
                if httpx.get(f"{url}/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass  # not listening yet
            if process.poll() is not None or time.perf_counter() - begun > 60:
                raise RuntimeError(f"the service of {folder} was not ready within a minute: look at what it logged")
            time.sleep(0.01)
        yield url, time.perf_counter() - begun, process
    finally:
        process.terminate()
        process.wait()


def resident_mb(url: str) -> float:
    """Resident memory of the service's process, MB; NaN where the system does not tell. Raises httpx.TransportError."""
    for line in httpx.get(f"{url}/metrics").text.splitlines():
        if line.startswith("process_resident_memory_bytes "):
            return float(line.split()[1]) / 1e6
    return float("nan")


def request_body(observations: Sequence[Sequence[float]]) -> bytes:
    """The body of a prediction. Never raises."""
    return json.dumps({"observations": [list(home) for home in observations]}, separators=(",", ":")).encode()


def inference_seconds(policy: ServedPolicy, observations: NDArray[np.float32], times: int) -> NDArray[np.float64]:
    """Seconds of each of so many inferences on observations (B, N), (times,); the first fifth is not counted."""
    taken = np.empty(times)
    for index in range(times):
        begun = time.perf_counter()
        policy.act(observations)
        taken[index] = time.perf_counter() - begun
    return taken[times // 5 :]
