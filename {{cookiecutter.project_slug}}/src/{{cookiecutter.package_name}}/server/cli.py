"""`serve`: check the settings, then run the service; `serve COMMAND …`: what the modules offer."""

import argparse
import math
import signal
import sys
from types import FrameType
from typing import Any

import uvicorn
from pydantic import ValidationError
from pydantic_settings import SettingsError

from ..app import CHECKS, COMMANDS
from ..observability import log
from ..settings import ServerSettings, Settings, explain
from ..streaming import Hosts
from . import descriptors, workers

#: Bytes of a WebSocket message around the event that is published.
ENVELOPE = 16 << 10
NO_NAME = (
    "Clients of other machines get 421 unless they ask for this host:"
    " APP_SERVER__ALLOWED_HOSTS or APP_SERVER__PUBLIC_URL allows other names and addresses"
)
PACKAGE = __name__.partition(".")[0]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit code 0 also after SIGTERM, 1 for a wrong setting."""
    options = _parse(arguments)
    try:
        settings = Settings()
    except ValidationError as error:
        sys.exit("\n".join(explain(error)))
    except (SettingsError, UnicodeDecodeError) as error:
        sys.exit(f"APP_…: {error}")
    for check in CHECKS:
        check(settings)
    if options.command:
        COMMANDS[options.command](settings, options.arguments)
    else:
        serve(settings, reload=options.reload)


def serve(settings: Settings, *, reload: bool = False) -> None:
    """Run uvicorn until a signal ends it."""
    # uvicorn raises the signal again when it has ended; before it starts, this ends us as well.
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    descriptors.allow_many()
    server = settings.server
    if _lacks_a_name(server):
        log.configure(settings.log)
        log.log.warning(NO_NAME, host=server.host)
    with workers.several(1 if reload else server.workers):
        uvicorn.run(
            f"{PACKAGE}.app:create_app",
            factory=True,
            host=server.host,
            port=server.port,
            workers=None if reload else server.workers,
            reload=reload,
            http=f"{PACKAGE}.server.protocol:Protocol",
            access_log=False,
            log_config=log.standard_library(settings.log),
            forwarded_allow_ips=server.trusted_proxies,
            backlog=descriptors.backlog(),
            timeout_keep_alive=math.ceil(server.keep_alive),
            timeout_graceful_shutdown=math.ceil(server.drain_timeout),
            # Of a worker that is still being imported; the watchdog finds those that are stuck.
            timeout_worker_healthcheck=30,
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


def _lacks_a_name(server: ServerSettings) -> bool:
    """Whether other machines can reach the service, and no setting has a name that they use."""
    is_local = Hosts(()).allow(server.host.encode())
    return not (is_local or server.public_url or server.allowed_hosts)


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
