"""`serve`: check the settings, then run the service; `serve COMMAND …`: what its parts offer."""

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import uvicorn
from pydantic import ValidationError
from pydantic_settings import SettingsError
from uvicorn.supervisors import ChangeReload, Multiprocess, multiprocess

from ..kernel.origins import Hosts
from ..observability import log
from ..service import Service
from ..settings import ServerSettings, ServiceSettings, explain
from . import connections
from .config import ServerConfig

#: Bytes of a WebSocket message around the event that is published.
ENVELOPE = 16 << 10
NO_NAME = (
    "Clients of other machines get 421 unless they ask for this host:"
    " APP_SERVER__ALLOWED_HOSTS or APP_SERVER__PUBLIC_URL allows other names and addresses"
)
#: uvicorn's exit code for an application that did not start.
STARTUP_FAILURE = 3

Factory = Callable[..., Service]
PACKAGE = __name__.partition(".")[0]


def main(
    create_app: Factory, read_settings: Callable[[], Any], arguments: list[str] | None = None
) -> None:
    """Run `serve`, `serve --reload` or `serve COMMAND …`, and end the process.

    `read_settings` returns the settings, and `create_app` makes the application of them; other
    processes import both, so they belong to a module. `arguments` are by default those of the
    process. The exit code is 0, also after SIGTERM; a wrong setting is reported in a line, with
    code 1.
    """
    settings = _read(read_settings)
    app = create_app(settings)
    options = _parse(sorted(app.commands), arguments)
    app.check()
    if options.command:
        app.commands[options.command](settings, options.arguments)
    elif options.reload:
        reload(create_app, read_settings, settings)
    else:
        serve(create_app, settings, app)


def serve(create_app: Factory, settings: ServiceSettings, app: Service | None = None) -> None:
    """Run the service until a signal ends it; one process takes `app` when it is made already."""
    number = settings.server.workers
    with _running(settings), several(number):
        if number > 1:
            config = server_config(partial(create_app, settings), settings, workers=number)
            supervisor = Multiprocess(config, sockets=[config.bind_socket()])
            supervisor.run()
            if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
                sys.exit(STARTUP_FAILURE)
            return
        config = server_config(partial(_given, app or create_app(settings)), settings)
        server = uvicorn.Server(config)
        server.run()
        if not server.started:
            sys.exit(STARTUP_FAILURE)


def reload(
    create_app: Factory, read_settings: Callable[[], Any], settings: ServiceSettings
) -> None:
    """Run the service, and start it again when its code changes.

    The application reads the settings anew each time; the server keeps `settings`.
    """
    os.environ["APP_SERVER__WORKERS"] = "1"
    with _running(settings), several(1):
        factory = partial(_create, create_app, read_settings)
        config = server_config(factory, settings, reload=True)
        server = uvicorn.Server(config)
        ChangeReload(config, target=server.run, sockets=[config.bind_socket()]).run()


def websocket_options(settings: ServiceSettings) -> dict[str, Any]:
    """Return uvicorn's options for WebSockets, which only the real-time module has."""
    realtime = getattr(settings, "realtime", None)
    if realtime is None:
        return {"ws": "none"}
    return {
        "ws": f"{__package__}.websocket:WebSocketConnection",
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


def server_config(factory: Any, settings: ServiceSettings, **options: Any) -> ServerConfig:
    """Return the configuration of a server for what `factory` makes."""
    server = settings.server
    return ServerConfig(
        factory,
        settings,
        factory=True,
        host=server.host,
        port=server.port,
        access_log=False,
        forwarded_allow_ips=server.trusted_proxies,
        backlog=connections.backlog(),
        timeout_keep_alive=math.ceil(server.keep_alive),
        timeout_graceful_shutdown=math.ceil(server.drain_timeout),
        # Of a worker that is still being imported; the watchdog finds those that are stuck.
        timeout_worker_healthcheck=30,
        server_header=False,
        **websocket_options(settings),
        **{"log_config": log.standard_library(settings.log), **options},
    )


def _given(app: Service) -> Service:
    return app


def _create(create_app: Factory, read_settings: Callable[[], Any]) -> Service:
    return create_app(_read(read_settings))


def _read(read_settings: Callable[[], Any]) -> Any:
    """Return the settings, or end the process with a line for each that is wrong."""
    try:
        return read_settings()
    except ValidationError as error:
        sys.exit("\n".join(explain(error)))
    except (SettingsError, UnicodeDecodeError) as error:
        sys.exit(f"APP_…: {error}")


@contextmanager
def _running(settings: ServiceSettings) -> Generator[None]:
    """Have the signals end the process, and a warning where nobody can reach it."""
    # uvicorn raises the signal again when it has ended; before it starts, this ends us as well.
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    connections.allow_many()
    if _lacks_a_name(settings.server):
        log.configure(settings.log)
        log.log.warning(NO_NAME, host=settings.server.host)
    with suppress(KeyboardInterrupt):
        yield


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def _parse(commands: list[str], arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serve", description=__doc__)
    parser.add_argument("--reload", action="store_true", help="restart when the code changes")
    parser.add_argument(
        "command", nargs="?", choices=commands, metavar="COMMAND", help=", ".join(commands) or "-"
    )
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT")
    return parser.parse_args(arguments)


class Worker(multiprocess.Process):
    """A process whose death is seen at once by who waits for its answer.

    uvicorn's own keeps the worker's end of their pipe open in the supervisor too. There a worker
    that dies when it has just been asked whether it works is waited for until the timeout: so long
    it is not replaced, nor is SIGTERM heeded.
    """

    def start(self) -> None:
        super().start()
        self.child_conn.close()


@contextmanager
def several(number: int) -> Generator[None]:
    """Tell the processes that are started how many they are, and where they share their metrics."""
    own = multiprocess.Process
    multiprocess.Process = Worker  # type: ignore[misc]  # uvicorn has no other way to say which.
    try:
        with _shared_metrics(number):
            yield
    finally:
        multiprocess.Process = own  # type: ignore[misc]


@contextmanager
def _shared_metrics(number: int) -> Generator[None]:
    if number == 1 or "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        yield
        return
    # In memory, where there is that: they are mapped, and a full disk would end the workers.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    with TemporaryDirectory(
        prefix=f"{PACKAGE}-", dir=memory, ignore_cleanup_errors=True
    ) as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        try:
            yield
        finally:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]
