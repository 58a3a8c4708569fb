"""Several applications in one process: imports change nothing, and each has its own state."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends

from {{cookiecutter.package_name}}.engine.kernel import Admission
from {{cookiecutter.package_name}}.engine.server import cli

from .service import Service

#: Imports every module, and prints the changes in the state of the process.
IMPORTS = """
import csv, json, logging, os, signal, sys, threading
from importlib import import_module
from pkgutil import walk_packages

from prometheus_client import metrics
from uvicorn.supervisors import multiprocess

def state():
    return {
        "csv": csv.field_size_limit(),
        "created": metrics._use_created,
        "process": str(multiprocess.Process),
        "handlers": len(logging.root.handlers),
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "threads": threading.active_count(),
        "environment": dict(os.environ),
        "interval": sys.getswitchinterval(),
    }

package = import_module(sys.argv[1])
before = state()
for module in walk_packages(package.__path__, f"{package.__name__}."):
    if not module.name.endswith("__main__"):
        import_module(module.name)
after = state()
json.dump({name: after[name] for name in after if after[name] != before[name]}, sys.stdout)
"""

router = APIRouter()


@router.get("/admitted")
async def admitted(_: Annotated[None, Depends(Admission("example"))]) -> str:
    return "yes"


def test_importing_all_modules_leaves_the_process_as_it_was() -> None:
    command = [sys.executable, "-c", IMPORTS, "{{cookiecutter.package_name}}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert json.loads(ended.stdout) == {}


async def test_one_application_has_its_own_routes_settings_and_figures(
    serve: Callable[..., Any],
) -> None:
    origin = "https://app.example.com"
    one: Service = await serve(router, cors={"origins": origin})
    other: Service = await serve(streaming={"max_streams": 7})
    async with one.client() as client, other.client() as client_of_other:
        found = await client.get("/admitted", headers={"Origin": origin})
        absent = await client_of_other.get("/admitted", headers={"Origin": origin})
        await one.ended("GET /admitted")
        figures = (await client.get("/metrics")).text
        figures_of_other = (await client_of_other.get("/metrics")).text

    assert (found.status_code, absent.status_code) == (200, 404)
    assert found.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-origin" not in absent.headers
    assert 'route="/admitted"' in figures
    assert 'route="/admitted"' not in figures_of_other
    limits = [service.app.state.kernel.limits.max_streams for service in (one, other)]
    assert limits[0] != limits[1] == 7


async def test_one_application_drains_without_the_other(serve: Callable[..., Any]) -> None:
    one: Service = await serve(router)
    other: Service = await serve(router)
    await one.call(one.app.state.kernel.drain.begin)
    async with one.client() as client, other.client() as client_of_other:
        refused = [await client.get(path) for path in ("/health/ready", "/admitted")]
        served = [await client_of_other.get(path) for path in ("/health/ready", "/admitted")]

    assert [answer.status_code for answer in refused] == [503, 503]
    assert [answer.status_code for answer in served] == [200, 200]


def test_a_server_of_several_processes_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    before = dict(os.environ)
    with cli.shared_metrics(2):
        assert Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).is_dir()

    assert dict(os.environ) == before
