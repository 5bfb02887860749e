"""What a connection may cost beside the application's work: the size of a head, the time to send it and to be read."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from prometheus_client import Counter
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_BYTES = 16_384  # of a request beside its body; browsers and proxies send about a tenth of it


def bounded(seconds: float, refused: Counter) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with the bounds that it lacks.

    On its own it keeps whatever headers and trailers come, and for ever a connection that sends half a request or none,
    or does not read its answer, until its limit of connections is reached and nobody is served. Its keep-alive time
    covers the silence after an answer.

    Args:
        seconds: from a connection, or from the first byte after an answer, to a whole head; and for an answer's way.
        refused: counts each refusal by its status.

    Returns:
        What ``uvicorn.run`` takes as ``http``.
    """

    class Bounded(HttpToolsProtocol):
        head = 0  # bytes of a request that are none of its body: request line, headers, trailers, what frames chunks
        deadline: asyncio.TimerHandle | None = None
        stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.deadline = self.loop.call_later(seconds, self.transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self.deadline, self.stalled):
                if timer is not None:
                    timer.cancel()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            # An answer that its client does not read: a close would wait for ever until it is sent.
            self.stalled = self.loop.call_later(seconds, self.transport.abort)
            super().pause_writing()

        def resume_writing(self) -> None:
            if self.stalled is not None:
                self.stalled.cancel()
            super().resume_writing()

        def data_received(self, data: bytes) -> None:
            # No more at once than a head may still have, so that none longer is ever whole.
            while data and not self.transport.is_closing():
                room = HEAD_BYTES - self.head
                part, data = data[:room], data[room:]
                self.head += len(part)
                super().data_received(part)
                if self.head >= HEAD_BYTES and not self.transport.is_closing():
                    refused.labels("431").inc()
                    self.transport.write(STATUS_LINE[431] + b"content-length: 0\r\nconnection: close\r\n\r\n")
                    self.transport.close()
            # The application has its own time for a request under way; all else that a client begins has ours.
            if self.cycle is not None and not self.cycle.response_complete:
                if self.deadline is not None:
                    self.deadline.cancel()
                    self.deadline = None
            elif self.deadline is None:
                self.deadline = self.loop.call_later(seconds, self.transport.abort)

        def on_body(self, body: bytes) -> None:
            self.head = max(self.head - len(body), 0)
            super().on_body(body)

        def on_message_complete(self) -> None:
            self.head = 0
            # Whole from here on, it waits for the service and no longer for its client; the middleware takes the time.
            self.cycle.scope["state"]["arrived"] = time.perf_counter()
            super().on_message_complete()

        # What uvicorn itself refuses never comes to the application.
        def _start_asgi_task(self, cycle: Any, app: Any) -> None:
            if app is service_unavailable:
                refused.labels("503").inc()
            super()._start_asgi_task(cycle, app)

        def send_400_response(self, msg: str) -> None:
            refused.labels("400").inc()
            super().send_400_response(msg)

    return Bounded
