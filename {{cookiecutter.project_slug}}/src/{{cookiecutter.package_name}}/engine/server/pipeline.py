"""Requests that wait for the one before them: so many of a connection, and of all together.

Each takes kilobytes, and its client only some 20 bytes. Above the limits a connection is not
read; its requests are still answered in order. Source: RFC 9112, section 9.3.2 (pipelining).
"""

from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl

from ..kernel.kernel import BOUNDS
from .config import limits_of
from .reading import Reading

#: Bytes of a body that may wait for the application before the client is held up.
BUFFER = 256 << 10


class Flow(FlowControl):
    """uvicorn's flow control, with a second reason not to read: bytes that are not parsed."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection.transport)
        self._connection = connection
        self.held = False

    def hold(self) -> None:
        self.held = True
        self._transport.pause_reading()

    def release(self) -> None:
        self.held = False
        if not self.read_paused:
            self._transport.resume_reading()

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()
        elif self.read_paused:
            self.read_paused = False
            self._connection.go_on()


class Pipeline(Reading):
    """A connection that is not read while too many of its requests wait."""

    #: Of all connections of this process.
    _waiting_in_all = 0
    _counted = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow: Any = Flow(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.pipeline.clear()
        self._count()

    def may_parse(self) -> bool:
        return not (self.flow.read_paused or self._is_full())

    def hold(self) -> None:
        self.flow.hold()
        if self._is_full():
            BOUNDS["server.max_pipelined"] += 1
            self._watch_client()

    def release(self) -> None:
        self.flow.release()

    def on_headers_complete(self) -> None:
        before = self.cycle
        super().on_headers_complete()
        cycle: Any = self.cycle
        if cycle is not before:  # Else it is an upgrade, or the offer of one.
            cycle.chunks, cycle.buffered = [], 0
        self._count()
        if self.pipeline and not self._is_full():
            self.flow.resume_reading()  # A socket that is not read does not tell that it closed.

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._count()
        self.go_on()

    def _is_unread(self) -> bool:
        return super()._is_unread() or self._is_full()

    def _is_full(self) -> bool:
        number = len(self.pipeline)
        if not number:
            return False
        limits = limits_of(self.config).server
        if number >= limits.max_pipelined or Pipeline._waiting_in_all >= limits.max_waiting:
            return True
        cycles: list[Any] = [cycle for cycle, _ in self.pipeline]
        buffered: int = sum(cycle.buffered for cycle in cycles)
        return buffered > BUFFER

    def _count(self) -> None:
        """Keep the number of all that wait."""
        number = len(self.pipeline)
        Pipeline._waiting_in_all += number - self._counted
        self._counted = number
