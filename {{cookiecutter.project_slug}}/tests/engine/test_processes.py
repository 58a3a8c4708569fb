"""Several processes: workers, and `--reload`, which restarts when the code changes."""

import asyncio
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from functools import partial
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import httpx
import pytest

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.server import cli
from {{cookiecutter.package_name}}.engine.server.config import ServerConfig
from {{cookiecutter.package_name}}.settings import Settings

from . import processes
from .peer import PATIENCE
from .service import ServiceProcess, make_settings

STARTUP_FAILURE = 3
#: Seconds in which a process starts, or detects the change of a file.
LONG = PATIENCE * 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a copy of `processes`."""
    return Path(shutil.copy(processes.__file__, tmp_path)).parent


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `processes` to its end."""
    settings = {f"APP_{name}": value for name, value in environment.items()}
    return subprocess.run(
        [sys.executable, "-m", "processes", *arguments],
        cwd=folder,
        env={**os.environ, "APP_SERVER__PORT": "0", **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.fault("G32")
@pytest.mark.parametrize(
    ("arguments", "workers"),
    [((), 1), ((), 2), (("--reload",), 1)],
    ids=["one", "several", "reload"],
)
@pytest.mark.slow
def test_an_address_in_use_is_named_and_ends_the_process(
    arguments: tuple[str, ...], workers: int, folder: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run(folder, *arguments, SERVER__PORT=port, WORKERS=str(workers))

    assert ended.returncode == STARTUP_FAILURE
    assert any("127.0.0.1" in line and port in line for line in ended.stdout.splitlines())


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
def test_a_service_that_cannot_start_has_an_exit_code(workers: int, folder: Path) -> None:
    ended = run(folder, FAILS="yes", WORKERS=str(workers))

    assert ended.returncode == STARTUP_FAILURE
    assert "there is no database" in ended.stdout


async def until(process: ServiceProcess, version: str, streams: int) -> None:
    """Wait until a service of this version, with these settings, responds."""
    async with asyncio.timeout(LONG), process.client() as client:
        while True:
            try:
                if (await client.get("/version")).json() == [version, streams]:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.01)


def change(folder: Path, before: str, after: str) -> None:
    source = folder / "processes.py"
    source.write_text(source.read_text().replace(f'"{before}"', f'"{after}"'))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.slow
async def test_a_changed_file_starts_the_service_again_with_the_settings_of_now(
    folder: Path,
) -> None:
    settings = folder / ".env"
    wrong = "APP_STREAMING__MAX_STREAMS: Input should be a valid integer"
    async with ServiceProcess(folder, "-m", "processes", "--reload") as process:
        try:
            await until(process, "first", make_settings().streaming.max_streams)
            settings.write_text("APP_STREAMING__MAX_STREAMS=7\n")
            change(folder, "first", "the second")
            await until(process, "the second", 7)

            settings.write_text("APP_STREAMING__MAX_STREAMS=many\n")
            change(folder, "the second", "the third")
            async with asyncio.timeout(LONG):
                while not any(line.startswith(wrong) for line in process.log):
                    await asyncio.sleep(0.01)

            settings.write_text("APP_STREAMING__MAX_STREAMS=8\n")
            change(folder, "the third", "the fourth of them")
            await until(process, "the fourth of them", 8)
        finally:  # A kill would leave the other process running.
            process.terminate()
            assert await process.exit_code() == 0
    assert not any("Traceback" in line for line in process.log)


@pytest.mark.fault("G38")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.slow
async def test_a_reloader_that_is_killed_leaves_no_process(folder: Path) -> None:
    async with ServiceProcess(folder, "-m", "processes", "--reload") as process:
        await until(process, "first", make_settings().streaming.max_streams)
        process.kill()
        await process.exit_code()

        assert not process.is_logging()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
async def test_a_signal_closes_all_listening_sockets_before_the_server_notices_it(
    workers: int, folder: Path
) -> None:
    """Clients would get refusals, or wait for the end of the drain."""
    settings = {"WORKERS": str(workers), "SLOW": "yes", "SERVER__DRAIN_TIMEOUT": "100 ms"}
    async with ServiceProcess(folder, "-m", "processes", **settings) as process:
        await until(process, "first", make_settings().streaming.max_streams)
        process.terminate()
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(ConnectionRefusedError):
                while True:
                    with suppress(ConnectionResetError):  # It was not accepted before the close.
                        async with process.raw_connection():
                            await asyncio.sleep(0.01)
        assert process.process.poll() is None


def make_elsewhere(config: ServerConfig, answers: "Queue[Any]") -> None:
    """Return the configuration after it was passed to another process."""
    config.load()
    made: Any = config.app
    limits = config.limits
    answers.put((type(made()).__name__, limits.port, config.send_timeout))


def test_a_configuration_crosses_to_a_process_that_shares_no_memory() -> None:
    settings = make_settings(server={"port": 1234}, streaming={"send_timeout": 50})
    spawn = multiprocessing.get_context("spawn")
    for factory in (partial(create_app, settings), partial(cli._create, create_app, Settings)):
        answers = spawn.Queue()
        config = ServerConfig(factory, settings, workers=2)
        process = spawn.Process(target=make_elsewhere, args=(config, answers))
        process.start()
        found = answers.get(timeout=60)
        process.join(60)

        assert found == ("Service", 1234, 50)
        assert process.exitcode == 0
