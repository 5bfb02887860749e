"""What a connection may cost beside the application's work: the size of a head, the time to send it and to be read."""

from __future__ import annotations

import asyncio

from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_BYTES = 16_384  # request line and headers; browsers and proxies send about a tenth of it


def bounded(seconds: float, refused: Counter) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with the bounds that it lacks.

    On its own it keeps whatever headers come, and for ever a connection that sends half a request or none, or does not
    read its answer, until its limit of connections is reached and nobody is served. Its keep-alive time covers the
    silence after an answer.

    Args:
        seconds: from a connection, or from the first byte after an answer, to a whole head; and for an answer's way.
        refused: counts each refusal by its status.

    Returns:
        What ``uvicorn.run`` takes as ``http``.
    """

    class Bounded(HttpToolsProtocol):
        head: int | None = 0  # bytes of the head so far; None: it is whole and its body follows
        deadline: asyncio.TimerHandle | None = None
        stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.deadline = self.loop.call_later(seconds, self.late)

        def connection_lost(self, exc: Exception | None) -> None:
            self.in_time()
            if self.stalled is not None:
                self.stalled.cancel()
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
            # No more at once than a head may still have: what follows it is no part of it.
            while data and not self.transport.is_closing():
                room = len(data) if self.head is None else HEAD_BYTES - self.head
                part, data = data[:room], data[room:]
                if self.head is not None:
                    self.head += len(part)
                super().data_received(part)
                if self.head is not None and self.head >= HEAD_BYTES:
                    self.refuse(431)
            # The application has its own time for a request under way; all else that a client begins has ours.
            if self.cycle is not None and not self.cycle.response_complete:
                self.in_time()
            elif self.deadline is None:
                self.deadline = self.loop.call_later(seconds, self.late)

        def on_headers_complete(self) -> None:
            self.head = None
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self.head = 0
            super().on_message_complete()

        def in_time(self) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
                self.deadline = None

        def late(self) -> None:
            self.deadline = None
            if self.head and not self.transport.is_closing():
                self.refuse(408)
            else:
                self.transport.abort()

        def refuse(self, status: int) -> None:
            refused.labels(str(status)).inc()
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()

    return Bounded
