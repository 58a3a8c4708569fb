"""The private names of uvicorn that this package uses, and the purpose of each.

uvicorn has no public interface for the additions of this package to its protocols. Any release may
change these names, so they are looked up before the server starts. If one is missing, `serve` ends
with an error that names it: otherwise the limits of connections would silently not apply.
"""

import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from types import FunctionType

import uvicorn

Names = dict[str, dict[str, str]]

#: For each name, the use that this package makes of it; by the class or module that has the name.
NAMES: Names = {
    "uvicorn.protocols.http.httptools_impl.HttpToolsProtocol": {
        "on_message_begin": "is extended: it marks that the parser is in the headers of a request",
        "on_header": "is extended: it counts fields, strips whitespace, and ignores trailers",
        "on_headers_complete": "is extended: it checks the headers before the request starts",
        "on_body": "is replaced: it passes on a body without copying it",
        "on_message_complete": "is extended: it does not end a request that offers an upgrade",
        "on_response_complete": "is extended: it sends a pending refusal, or waits for a request",
        "handle_websocket_upgrade": "is replaced: the headers are not serialized and parsed again",
        "_should_upgrade": "is replaced: it accepts only valid handshakes for a WebSocket",
        "_start_asgi_task": "is extended: it wraps the application for one request",
        "_unset_keepalive_if_required": "is called when bytes arrive, to cancel the timer",
        "app_state": "is passed on to the WebSocket protocol",
        "config": "contains the limits of connections",
        "connections": "is changed: a connection that becomes a WebSocket is removed",
        "cycle": "is the state of the request that was parsed last",
        "expect_100_continue": "is set only for HTTP/1.1 and for a whole member of Expect",
        "flow": "is replaced by an object that also pauses reading for unparsed bytes",
        "headers": "is checked, and changed if the target contains the host",
        "logger": "reports malformed requests",
        "loop": "schedules the timers and the parsing",
        "parser": "is replaced after an offer of another protocol, and after a body",
        "pipeline": "contains the waiting requests, which are counted and limited",
        "root_path": "is the prefix of the path of a WebSocket",
        "scope": "is passed on to the WebSocket protocol, with the path and the query",
        "server_state": "identifies the server whose connections are counted",
        "transport": "is closed, reset, paused and written to",
        "url": "is the request target, which is checked",
        "ws_protocol_class": "is instantiated for a WebSocket",
    },
    "uvicorn.protocols.http.httptools_impl.RequestResponseCycle": {
        "send": "is called for messages that no extension handles",
        "chunked_encoding": "is set to False for HTTP/1.0, which has no chunks",
        "disconnected": "is set after an abort, so that uvicorn does not log an error",
        "expected_content_length": "is reduced by the bytes that sendfile has sent",
        "flow": "is resumed when the application reads the body",
        "keep_alive": "is set to False after the client has sent FIN",
        "message_event": "is set to wake up the application when the body arrives",
        "more_body": "is read: it is False when the request is complete",
        "response_complete": "is read: the rest of the request body is then ignored",
        "response_started": "is read: only before the response can a refusal be sent",
        "scope": "contains the ASGI extensions",
        "transport": "is written to and aborted",
        "waiting_for_100_continue": "is read: 100 is sent when the application reads the body",
    },
    "uvicorn.protocols.http.flow_control.FlowControl": {
        "drain": "waits until the client accepts more bytes",
        "pause_reading": "is called when the buffer of a body is full",
        "resume_reading": "is extended: unparsed bytes keep the connection paused",
        "read_paused": "is read: parsing waits while the buffer of a body is full",
        "write_paused": "is read: the direct writer waits while it is True",
        "_transport": "is paused and resumed for unparsed bytes",
    },
    "uvicorn.server.Server": {"servers": "are closed as soon as a signal ends the server"},
    "uvicorn.server.ServerState": {"connections": "are counted"},
    "uvicorn.supervisors.multiprocess.Process": {
        "child_conn": "is closed in the supervisor, which otherwise misses the death of a worker",
    },
    "uvicorn.supervisors.multiprocess.Multiprocess": {
        "keep_subprocess_alive": "is extended: it closes `child_conn` before the check",
        "processes": "contains the workers",
        "sockets": "are closed in the supervisor when it ends its workers",
        "terminate_all": "is extended: it closes `sockets`",
    },
    "uvicorn.config.Config": {
        "load": "is extended: it wraps the application in the middleware for proxies",
        "loaded_app": "is the application that is wrapped",
        "should_reload": "is replaced: uvicorn returns False without an import string",
    },
    "uvicorn.middleware.proxy_headers.ProxyHeadersMiddleware": {
        "trusted_hosts": "contains the addresses of trusted proxies",
    },
    "uvicorn.middleware.proxy_headers": {
        "_parse_host_port": "separates address and port as uvicorn does for X-Forwarded-For",
    },
    "uvicorn.protocols.websockets.websockets_sansio_impl.WebSocketsSansIOProtocol": {
        "receive": "is replaced: it resumes reading when no message waits",
        "send": "is extended: it raises ClientDisconnected if the protocol has closed",
        "handle_cont": "is extended: it limits the fragments of a message",
        "handle_events": "is called to start the application for a handshake",
        "handle_parser_exception": "is called to close a connection that exceeds a limit",
        "handle_ping": "is extended: it limits pings, and the pongs that wait to be sent",
        "handle_pong": "is extended: it limits pongs",
        "send_receive_event_to_app": "is extended: it closes the connection after invalid UTF-8",
        "keepalive_timeout": "is extended: it resets a connection whose client sends no pong",
        "app": "is wrapped, so that the connection of a slow client is reset",
        "close_sent": "is True after a close of either side",
        "config": "contains the limits of connections",
        "curr_msg_data_type": "is read: only text must be UTF-8",
        "conn": "receives the handshake, and closes a connection that exceeds a limit",
        "frames": "contains the fragments of the current message, which are counted",
        "handshake_complete": "is True when frames may be parsed",
        "logger": "is replaced by one whose level can be set separately",
        "loop": "schedules the parsing",
        "queue": "contains the messages that wait for the application",
        "read_paused": "is True while a message waits for the application",
        "scope": "is changed: it gets the path and headers of the HTTP request",
        "transport": "is paused, resumed and reset",
        "writable": "is set while the client accepts more bytes",
    },
}


def missing(names: Names) -> Iterator[str]:
    """Yield the names that uvicorn does not have."""
    for path, needed in names.items():
        owner = _find(path)
        if owner is None:
            yield path
        else:
            known = _names_of(owner)
            yield from (f"{path}.{name}" for name in needed if name not in known)


@cache
def check() -> None:
    """End the process with one line if uvicorn lacks a name; raises SystemExit."""
    if lacking := [*missing(NAMES)]:
        sys.exit(
            f"uvicorn {uvicorn.__version__} has no {', '.join(lacking)}: the limits of connections"
            " need it (docs/troubleshooting.md has the remedies)"
        )


def _find(path: str) -> object:
    """Return a module or class, or None."""
    module, _, name = path.rpartition(".")
    try:
        return import_module(path) if path.islower() else getattr(import_module(module), name, None)
    except ImportError:
        return None


def _names_of(owner: object) -> set[str]:
    """Return the names in a module, or those in a class and in the code of its own methods."""
    functions = [each for each in vars(owner).values() if isinstance(each, FunctionType)]
    referred = (name for each in functions for name in each.__code__.co_names)
    return {*dir(owner), *referred} if isinstance(owner, type) else set(dir(owner))
