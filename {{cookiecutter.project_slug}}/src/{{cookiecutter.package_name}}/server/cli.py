"""`serve`: check the settings, then run the service; `serve COMMAND …`: what the modules offer."""

import argparse
import asyncio
import logging
import math
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
import uvicorn.config
from pydantic import ValidationError
from pydantic_settings import SettingsError

from ..app import COMMANDS
from ..settings import Settings, explain
from ..streaming import StreamAborted

#: Bytes of a WebSocket message around the event that is published.
ENVELOPE = 16 << 10
#: Open files and connections of one process, where the system lets it have so many.
MAX_FILES = 1 << 16
PACKAGE = __name__.partition(".")[0]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit code 0 also after SIGTERM, 1 when a setting is wrong."""
    options = _parse(arguments)
    try:
        settings = Settings()
    except ValidationError as error:
        sys.exit("\n".join(explain(error)))
    except (SettingsError, UnicodeDecodeError) as error:
        sys.exit(f"APP_…: {error}")
    if options.command:
        COMMANDS[options.command](settings, options.arguments)
    else:
        serve(settings, reload=options.reload)


def serve(settings: Settings, *, reload: bool = False) -> None:
    """Run uvicorn until a signal ends it."""
    # uvicorn raises the signal again when it has ended; before it starts, this ends us as well.
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    _allow_many_files()
    server = settings.server
    uvicorn.run(
        f"{PACKAGE}.app:create_app",
        factory=True,
        host=server.host,
        port=server.port,
        workers=None if reload else server.workers,
        reload=reload,
        http=f"{PACKAGE}.server.protocol:Protocol",
        access_log=False,
        log_config=_log_config(),
        forwarded_allow_ips=server.trusted_proxies,
        timeout_graceful_shutdown=math.ceil(server.drain_timeout),
        server_header=False,
        **websocket_options(settings),
    )


def websocket_options(settings: Settings) -> dict[str, Any]:
    """Return uvicorn's options for WebSockets, which only the real-time module has."""
    realtime = getattr(settings, "realtime", None)
    if realtime is None:
        return {"ws": "none"}
    return {
        "ws": f"{PACKAGE}.server.websocket:WebSocketConnection",
        "ws_max_size": realtime.max_event_size + ENVELOPE,
        # By the server: an application cannot, and a browser answers them by itself.
        "ws_ping_interval": realtime.heartbeat,
        "ws_ping_timeout": settings.streaming.by_module(settings)["realtime"].send_timeout,
        "ws_per_message_deflate": False,  # It takes as much memory as all the rest.
    }


def _allow_many_files() -> None:
    """Raise a low limit of the shell: a connection takes one, a file under way two."""
    with suppress(ImportError, OSError, ValueError):
        import resource  # Windows has neither the module nor the limit.

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serve", description=__doc__)
    parser.add_argument("--reload", action="store_true", help="restart when the code changes")
    commands = sorted(COMMANDS)
    parser.add_argument(
        "command", nargs="?", choices=commands, metavar="COMMAND", help=", ".join(commands) or "-"
    )
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT")
    return parser.parse_args(arguments)


class _Causes(logging.Filter):
    """Shows of an aborted stream what broke it, and nothing when that was the client."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, asyncio.CancelledError):
            return False  # The drain was over before this request was.
        if not isinstance(error, StreamAborted):
            return True
        cause = error.__cause__
        if cause is not None:
            record.msg = f"A stream was aborted: {error}"
            record.exc_info = (type(cause), cause, cause.__traceback__)
        return cause is not None


def _log_config() -> dict[str, object]:
    """Return uvicorn's logging with our loggers beside it."""
    handlers = ["default"]
    return {
        **uvicorn.config.LOGGING_CONFIG,
        "filters": {"causes": {"()": _Causes}},
        "loggers": {
            "uvicorn": {"handlers": handlers, "level": "INFO", "propagate": False},
            "uvicorn.error": {"level": "INFO", "filters": ["causes"]},
            "uvicorn.error.websocket": {"level": "WARNING", "filters": ["causes"]},
            PACKAGE: {"handlers": handlers, "level": "INFO", "propagate": False},
        },
    }
