"""The protocol class that uvicorn runs: ours, where uvicorn's internals are what ours leans on.

Where they differ it is the one that uvicorn would choose itself, and a log line says so.
"""

import asyncio
import logging
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

logger = logging.getLogger(__name__)

IMPLEMENTATION = "uvicorn.protocols.http.httptools_impl"
#: What is overridden or called, by class.
METHODS = {
    "HttpToolsProtocol": [
        "connection_made", "connection_lost", "data_received", "eof_received", "on_message_begin",
        "on_header", "on_headers_complete", "on_body", "on_message_complete",
        "on_response_complete", "handle_websocket_upgrade", "_should_upgrade",
        "_should_upgrade_to_ws", "_start_asgi_task", "_unset_keepalive_if_required",
    ],
    "RequestResponseCycle": ["send", "receive"],
    "FlowControl": ["drain", "pause_reading", "resume_reading"],
}  # fmt: skip
#: What is read or set, by the class whose constructor makes it.
ATTRIBUTES = {
    "FlowControl": {"read_paused", "write_paused"},
    "HttpToolsProtocol": {
        "cycle", "expect_100_continue", "flow", "headers", "loop", "parser", "pipeline",
        "server_state", "transport",
    },
    "RequestResponseCycle": {
        "chunked_encoding", "disconnected", "expected_content_length", "flow", "message_event",
        "keep_alive", "more_body", "response_complete", "response_started", "scope", "transport",
        "waiting_for_100_continue",
    },
}  # fmt: skip


def differences(module: Any) -> Iterator[str]:
    """Yield what is not where ours expects it."""
    for name, methods in METHODS.items():
        yield from (
            f"{name}.{each}" for each in methods if not hasattr(getattr(module, name), each)
        )
    for name, attributes in ATTRIBUTES.items():
        made = getattr(module, name).__init__.__code__.co_names
        yield from (f"{name}.{each}" for each in sorted(attributes.difference(made)))


def choose() -> type[asyncio.Protocol]:
    """Return our protocol class, or uvicorn's own."""
    try:
        missing = ", ".join(differences(import_module(IMPLEMENTATION)))
        if not missing:
            from . import forwarded
            from .connection import Connection

            forwarded.install()
            return Connection
    except (ImportError, AttributeError) as error:
        missing = str(error)
    logger.warning("uvicorn has changed (%s): using its own protocol", missing)
    return AutoHTTPProtocol


Protocol = choose()
