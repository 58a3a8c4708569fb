"""The server: its start, its refusal to start, and its end."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import uvicorn
from uvicorn.supervisors import multiprocess

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.server import cli
from {{cookiecutter.package_name}}.settings import Settings

from .peer import PATIENCE
from .service import ServiceProcess, make_settings


@pytest.fixture(autouse=True)
def _other_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the files of `serve` out of the folder of the project."""
    monkeypatch.chdir(tmp_path)


def serve(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "{{cookiecutter.package_name}}", *arguments],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


BAD = [
    ("APP_SERVER__HOST", "no such host"),
    ("APP_SERVER__HOST", "a" * 300),
    ("APP_SERVER__HOST", "http://127.0.0.1"),
    ("APP_SERVER__HOST", "::zz"),
    ("APP_SERVER__PUBLIC_URL", "https://"),
    ("APP_SERVER__PUBLIC_URL", "http://[::1"),
    ("APP_SERVER__PUBLIC_URL", "https://files.example.com:many"),
    ("APP_SERVER__PUBLIC_URL", "https://files example.com"),
    ("APP_SERVER__UMASK", "rw"),
    ("APP_SERVER__UMASK", "700"),
    ("APP_CORS__ORIGINS", "app.example.com"),
    ("PROMETHEUS_MULTIPROC_DIR", "missing/directory"),
]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("APP_SERVER__PORT", "many"),
        ("APP_SERVER__PUBLIC_URL", "files.example.com"),
        *(pytest.param(variable, value, marks=pytest.mark.fault("G20")) for variable, value in BAD),
        ("APP_SERVER__WORKRES", "1"),
        ("APP_STREAMING__IDLE_TIMEOUT", "30 parsecs"),
        ("APP_STREAMING__MIN_RATE", "-1"),
    ],
)
def test_a_wrong_setting_is_reported_in_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SystemExit) as stopped:
        cli.main(create_app, Settings, [])

    [line] = str(stopped.value.code).splitlines()
    assert line.startswith(f"{variable}: ")


@pytest.mark.fault("G20")
@pytest.mark.parametrize("url", ["redis://:password:x", "redis://127.0.0.1:99999"])
def test_a_port_of_the_broker_that_is_none_is_reported_too(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    pytest.importorskip("{{cookiecutter.package_name}}.engine.realtime")
    test_a_wrong_setting_is_reported_in_one_line_that_names_it(
        monkeypatch, "APP_REALTIME__BROKER_URL", url
    )


@pytest.mark.fault("G20")
@pytest.mark.slow
def test_a_variable_of_uvicorn_does_not_stop_the_command(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = serve(tmp_path, APP_SERVER__PORT=port, WEB_CONCURRENCY="many")

    assert ended.returncode == 3
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.slow
def test_a_wrong_setting_stops_the_command(tmp_path: Path) -> None:
    ended = serve(tmp_path, APP_SERVER__PORT="many")

    assert ended.returncode == 1
    assert ended.stderr.startswith("APP_SERVER__PORT: ")
    assert len(ended.stderr.splitlines()) == 1


def test_every_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_SERVER__PORT", "many")
    monkeypatch.setenv("APP_STREAMING__THREADS", "0")

    with pytest.raises(SystemExit) as stopped:
        cli.main(create_app, Settings, [])

    lines = str(stopped.value.code).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "APP_SERVER__PORT",
        "APP_STREAMING__THREADS",
    ]


@pytest.mark.skipif("realtime" not in Settings.model_fields, reason="there is no real-time")
def test_several_workers_with_events_in_memory_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("APP_SERVER__WORKERS", "2")

    with pytest.raises(SystemExit, match="WORKERS: the memory broker belongs to one process"):
        cli.main(create_app, Settings, [])


def test_sizes_and_durations_have_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_STREAMING__MIN_RATE", "2 KiB")
    monkeypatch.setenv("APP_STREAMING__IDLE_TIMEOUT", "1.5 min")
    monkeypatch.setenv("APP_STREAMING__SEND_TIMEOUT", "250 ms")
    monkeypatch.setenv("APP_SERVER__DRAIN_NOTICE", "7")

    settings = make_settings()
    assert settings.streaming.min_rate == 2048
    assert settings.streaming.idle_timeout == 90
    assert settings.streaming.send_timeout == 0.25
    assert settings.server.drain_notice == 7


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.slow
async def test_sigterm_ends_the_service_with_exit_code_0(tmp_path: Path) -> None:
    async with ServiceProcess(tmp_path) as process:
        process.terminate()
        assert await process.exit_code() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.trap("R11", "R12")
@pytest.mark.slow
async def test_readiness_fails_during_the_notice_and_then_the_service_ends(tmp_path: Path) -> None:
    notice = {"SERVER__DRAIN_NOTICE": "2 s"}
    async with ServiceProcess(tmp_path, **notice) as process, process.client() as client:
        assert (await client.get("/health/ready")).status_code == 200
        process.terminate()
        async with asyncio.timeout(PATIENCE):
            while (await client.get("/health/ready")).status_code == 200:
                pass
        assert (await client.get("/health/live")).status_code == 200
        assert await process.exit_code() == 0


def test_a_health_check_ends_when_the_worker_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocess, "SIGNALS", {})
    supervisor = cli.Supervisor(uvicorn.Config("no_such_application:app", workers=1), [])
    supervisor.init_processes()
    [worker] = supervisor.processes
    monkeypatch.setattr(worker, "is_alive", lambda timeout: True)
    supervisor.keep_subprocess_alive()
    worker.process.kill()
    worker.process.join()

    assert worker.parent_conn.poll(0)
    with pytest.raises(EOFError):
        worker.parent_conn.recv()
