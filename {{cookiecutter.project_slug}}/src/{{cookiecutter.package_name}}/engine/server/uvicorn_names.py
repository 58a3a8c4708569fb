"""The private names of uvicorn that this package uses, and why.

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

#: The reason for each name, by the class or module that has it.
Names = dict[str, dict[str, str]]

HTTP: Names = {
    "uvicorn.protocols.http.httptools_impl.HttpToolsProtocol": {
        "on_message_begin": "begins the deadline and the size of the headers",
        "on_header": "removes trailing whitespace and trailers",
        "on_headers_complete": "checks the headers before the request is started",
        "on_body": "is replaced: a body is passed on without copies",
        "on_message_complete": "is not called at an offer of another protocol",
        "on_response_complete": "begins the wait for the next request",
        "handle_websocket_upgrade": "is replaced: the headers are not parsed a second time",
        "_should_upgrade": "ignores offers of protocols other than WebSocket",
        "_should_upgrade_to_ws": "is False in a project without WebSockets",
        "_start_asgi_task": "is the only place where the application can be wrapped per request",
        "_unset_keepalive_if_required": "stops the keep-alive timeout when bytes arrive",
        "app_state": "is passed on to the WebSocket protocol",
        "config": "has the limits of connections",
        "connections": "must not contain a connection that became a WebSocket",
        "cycle": "is the request that was read last",
        "expect_100_continue": "is set only for HTTP/1.1 and for a whole member of Expect",
        "flow": "is replaced by one that also pauses for unparsed bytes",
        "headers": "are checked, and replaced where the target names the host",
        "logger": "reports malformed requests",
        "loop": "has the timers, and the turns in which connections parse",
        "parser": "is replaced after an offer of another protocol, and after a body",
        "pipeline": "has the requests that wait, which are counted",
        "root_path": "begins the path of a WebSocket",
        "scope": "gets the target of a WebSocket",
        "server_state": "identifies the server whose connections are counted",
        "transport": "is closed, reset, paused and written to",
        "url": "is the target that is checked",
        "ws_protocol_class": "is made here with the scope that was read",
    },
    "uvicorn.protocols.http.httptools_impl.RequestResponseCycle": {
        "send": "writes the messages that belong to no extension",
        "chunked_encoding": "is False for HTTP/1.0, whose bodies end with the connection",
        "disconnected": "ends a response after an abort without an error in the log",
        "expected_content_length": "counts the bytes that sendfile has sent",
        "flow": "is resumed when the application reads the body",
        "keep_alive": "is False after the client has sent FIN",
        "message_event": "wakes up the application when the body arrives",
        "more_body": "is False when the request is complete",
        "response_complete": "ends the body that is read",
        "response_started": "decides between a refusal and a closed connection",
        "scope": "has the extensions",
        "transport": "is written to and aborted",
        "waiting_for_100_continue": "asks for the body when the application reads it",
    },
    "uvicorn.protocols.http.flow_control.FlowControl": {
        "drain": "waits until the client takes more",
        "pause_reading": "stops reading while a body is buffered",
        "resume_reading": "is overridden: unparsed bytes keep the connection paused",
        "read_paused": "is read before a slice is parsed",
        "write_paused": "makes the direct writer wait",
        "_transport": "is paused and resumed",
    },
    "uvicorn.server.ServerState": {"connections": "are counted"},
    "uvicorn.supervisors.multiprocess.Process": {
        "child_conn": "is closed in the supervisor, which otherwise misses the death of a worker",
    },
    "uvicorn.supervisors.multiprocess.Multiprocess": {
        "keep_subprocess_alive": "runs before each check of the workers",
        "processes": "are the workers that are checked",
    },
    "uvicorn.config.Config": {
        "load": "puts the middleware for proxies around the application",
        "loaded_app": "is the application that is wrapped",
        "should_reload": "is False for an application without an import string",
    },
    "uvicorn.middleware.proxy_headers.ProxyHeadersMiddleware": {
        "trusted_hosts": "contains the addresses of trusted proxies",
    },
    "uvicorn.middleware.proxy_headers": {
        "_parse_host_port": "separates address and port as uvicorn does for X-Forwarded-For",
    },
}
WEBSOCKETS: Names = {
    "uvicorn.protocols.websockets.websockets_sansio_impl.WebSocketsSansIOProtocol": {
        "receive": "is replaced: reading continues after the messages that wait",
        "send": "raises ClientDisconnected after a close by the protocol",
        "handle_cont": "counts the fragments of a message",
        "handle_events": "starts the application for the handshake",
        "handle_parser_exception": "closes a connection that breaks a limit",
        "handle_ping": "counts pings, and writes no pong to a client that does not read",
        "handle_pong": "counts pongs",
        "keepalive_timeout": "resets the connection of a client that does not respond to a ping",
        "app": "is wrapped",
        "close_sent": "is True after a close of either side",
        "config": "has the limits of connections",
        "conn": "gets the handshake, and fails the connection",
        "frames": "are the fragments of the message that arrives",
        "handshake_complete": "is True when frames may be parsed",
        "logger": "is replaced by one with a level of its own",
        "loop": "has the turns in which connections parse",
        "queue": "has the messages that wait for the application",
        "read_paused": "is True while a message waits for the application",
        "scope": "gets the headers as the HTTP connection has read them",
        "transport": "is paused, resumed and reset",
        "writable": "is set when the client takes more",
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
def check(*, websockets: bool) -> None:
    """End the process with one line if uvicorn lacks a name; raises SystemExit."""
    lacking = [*missing(HTTP), *(missing(WEBSOCKETS) if websockets else ())]
    if lacking:
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
