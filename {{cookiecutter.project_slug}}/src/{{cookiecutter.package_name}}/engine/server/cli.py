"""`serve`: check the settings and run the service; `serve COMMAND …`: the commands of its parts."""

import argparse
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from pydantic_settings import SettingsError
from uvicorn.supervisors import ChangeReload, Multiprocess

from .. import check
from ..kernel.origins import is_local
from ..observability import log
from ..service import Service
from ..settings import ServiceSettings, explain
from .config import ServerConfig

NO_NAME = (
    "Clients on other machines get 421 unless they use this host as the name of the service:"
    " APP_SERVER__ALLOWED_HOSTS or APP_SERVER__PUBLIC_URL allows other names and addresses"
)
#: The directory of prometheus-client, which workers share.
METRICS = "PROMETHEUS_MULTIPROC_DIR"
#: uvicorn's exit code for an application that did not start.
STARTUP_FAILURE = 3

Factory = Callable[..., Service]
PACKAGE = __name__.partition(".")[0]


def main(
    create_app: Factory, read_settings: Callable[[], Any], arguments: list[str] | None = None
) -> None:
    """Run `serve`, `serve --reload` or `serve COMMAND …`, and end the process.

    `serve check` reads no settings, because it checks only the code.
    `read_settings` returns the settings, and `create_app` creates the application from them. Other
    processes import both, so they must be defined in a module. `arguments` are by default those of
    the process. The exit code is 0, also after SIGTERM. A wrong setting is reported in one line,
    with exit code 1.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    words = [each for each in arguments if each != "--reload"]
    if words[:1] == ["check"]:
        check.main(words[1:])
    settings = _read(read_settings)
    directory = os.environ.get(METRICS)
    if directory is not None and not os.access(directory, os.W_OK):
        sys.exit(f"{METRICS}: {directory} cannot be written")
    os.umask(int(settings.server.umask, 8))
    app: Any = create_app(settings)
    is_wrapped = not isinstance(app, FastAPI)
    if is_wrapped:  # Middleware around it would hide failures from the engine.
        name = f"{create_app.__module__}.{create_app.__name__}"
        wrapper = f"{type(app).__module__}.{type(app).__name__}"
        sys.exit(f"{name} returned {wrapper}: add middleware with add_middleware of the Service")
    options = _parse(["check", *sorted(app.commands)], arguments)
    if options.command:
        app.commands[options.command](settings, options.arguments)
        return
    app.check()
    _check_access(app)
    for part in reversed(app.parts):  # The first key is created once no other part refuses.
        part.prepare(app)
    if options.reload:
        reload(create_app, read_settings, settings)
    else:
        serve(create_app, settings, app)


def serve(create_app: Factory, settings: ServiceSettings, app: Service | None = None) -> None:
    """Run the service until a signal ends it; one process uses `app` if it is given."""
    number = settings.server.workers
    with _running(settings), shared_metrics(number) as directory:
        if number > 1:
            config = ServerConfig(partial(create_app, settings), settings, workers=number)
            config.directory = directory
            supervisor = Supervisor(config, sockets=[config.bind_socket()])
            supervisor.run()
            if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
                sys.exit(STARTUP_FAILURE)
            return
        made = app or create_app(settings)
        config = ServerConfig(lambda: made, settings)
        server = config.server = uvicorn.Server(config)
        server.run()
        if not server.started:
            sys.exit(STARTUP_FAILURE)


def reload(
    create_app: Factory, read_settings: Callable[[], Any], settings: ServiceSettings
) -> None:
    """Run the service, and restart it when its code changes.

    The application reads the settings each time; the server keeps `settings`.
    """
    os.environ["APP_SERVER__WORKERS"] = "1"
    with _running(settings):
        factory = partial(_create, create_app, read_settings)
        config = ServerConfig(factory, settings, reload=True)
        server = uvicorn.Server(config)
        ChangeReload(config, target=server.run, sockets=[config.bind_socket()]).run()


class Supervisor(Multiprocess):
    """uvicorn's supervisor, with fewer open pipes and sockets.

    uvicorn keeps the worker's end of the pipe open in the supervisor. The pipe of a dead worker
    then never ends: a health check waits for its timeout, and SIGTERM waits for the check. It keeps
    the listening socket, too: during the drain, new connections would wait there for nothing.
    """

    def terminate_all(self) -> None:
        for each in self.sockets:
            each.close()  # Each worker has a copy.
        super().terminate_all()

    def keep_subprocess_alive(self) -> None:
        for worker in self.processes:
            worker.child_conn.close()  # Without effect if it is closed.
        super().keep_subprocess_alive()


def _check_access(app: Service) -> None:
    """Exit with one line if other machines could use the service without a key."""
    server = app.settings.server
    is_open = app.state.kernel.challenge is None and not server.allow_anonymous
    if is_open and not is_local(server.host):
        sys.exit(
            f"APP_SERVER__HOST: this service has no access control, so it refuses {server.host!r}:"
            " APP_SERVER__ALLOW_ANONYMOUS=true lets every client that reaches it read and change"
            " everything"
        )


def _lacks_a_name(settings: ServiceSettings) -> bool:
    """Return whether clients of other machines must use the address that the server listens on."""
    server = settings.server
    return not (is_local(server.host) or server.public_url or server.allowed_hosts)


def _create(create_app: Factory, read_settings: Callable[[], Any]) -> Service:
    return create_app(_read(read_settings))


def _read(read_settings: Callable[[], Any]) -> Any:
    """Return the settings, or end the process with a line for each that is wrong."""
    try:
        return read_settings()
    except ValidationError as error:
        sys.exit("\n".join(explain(error)))
    except (OSError, SettingsError, UnicodeDecodeError) as error:
        sys.exit(f"APP_…: {error}")


@contextmanager
def _running(settings: ServiceSettings) -> Generator[None]:
    """Let signals end the process, and warn if clients cannot use a name of the service.

    Exit with one line if the host is neither an address nor a known name.
    """
    server = settings.server
    try:
        socket.getaddrinfo(server.host or None, server.port)
    except (OSError, UnicodeError) as error:
        sys.exit(f"APP_SERVER__HOST: {server.host!r} has no address: {error}")
    # uvicorn raises the signal again after its shutdown. Before it starts, `_exit` handles it.
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    if _lacks_a_name(settings):
        log.configure(settings.log)
        log.log.warning(NO_NAME, host=server.host)
    with suppress(KeyboardInterrupt):
        yield


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def _parse(commands: list[str], arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serve", description=__doc__)
    parser.add_argument("--reload", action="store_true", help="restart when the code changes")
    parser.add_argument(
        "command", nargs="?", choices=commands, metavar="COMMAND", help=", ".join(commands)
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT")
    return parser.parse_args(arguments)


@contextmanager
def shared_metrics(workers: int) -> Generator[str | None]:
    """Give several workers a directory in which they share their metrics; None if they have one."""
    if workers == 1 or METRICS in os.environ:
        yield None
        return
    # In memory where possible: the files are memory-mapped, so a full disk would crash the workers.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    with TemporaryDirectory(
        prefix=f"{PACKAGE}-", dir=memory, ignore_cleanup_errors=True
    ) as directory:
        os.environ[METRICS] = directory
        try:
            yield directory
        finally:
            del os.environ[METRICS]
