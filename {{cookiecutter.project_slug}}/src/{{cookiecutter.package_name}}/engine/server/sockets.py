"""Options of the sockets of connections, and the reset of one. Source: RFC 5482 (user timeout)."""

import socket
import struct
import sys
from typing import Any

#: Bytes of a response that the system buffers beyond those in flight.
NOT_SENT = 512 << 10
#: The time for which sent data may stay unacknowledged, in send timeouts. More than one, because
#: TCP treats a receive window that opens in small steps as closed.
USER_TIMEOUTS = 4
#: SO_LINGER with a time of zero: closing sends RST and drops the buffered bytes.
_ABORT = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


def configure(transport: Any, send_timeout: float) -> None:
    """Set the options of a connection; `send_timeout` is in seconds."""
    sock = transport.get_extra_info("socket")
    if sock.family == getattr(socket, "AF_UNIX", None):
        return
    # asyncio sets it only on sockets that name their protocol, unlike those that uvicorn binds for
    # several workers or `--reload`: there every second small write would wait for 40 ms.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # A buffer of megabytes becomes writable only when a third of it is free, so a client that
        # reads slowly but steadily would seem to be stalled for minutes.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Without it a lost link is noticed after 15 minutes.
        timeout = int(1000 * USER_TIMEOUTS * send_timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout)


def reset(transport: Any) -> None:
    """Close a connection with RST and drop the bytes that are still buffered for it."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    transport.abort()
