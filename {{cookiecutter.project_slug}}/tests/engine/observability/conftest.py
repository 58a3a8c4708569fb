"""The examples, in this process and in one of their own."""

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ..service import Service, ServiceProcess
from . import examples


@pytest.fixture
async def service(serve: Any) -> Service:
    started: Service = await serve(examples.router)
    return started


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., ServiceProcess]:
    """Make a process with the examples; the arguments are those of `ServiceProcess`."""
    shutil.copy(examples.__file__, tmp_path / "examples.py")

    def make(*arguments: str, **environment: str) -> ServiceProcess:
        return ServiceProcess(tmp_path, "-m", *(arguments or ("examples",)), **environment)

    return make


@pytest.fixture
async def workers(
    process: Callable[..., ServiceProcess],
) -> AsyncIterator[ServiceProcess]:
    """Two processes with the examples, and the one that looks after them."""
    async with process(WORKERS="2", SERVER__STUCK_AFTER="2 s") as running:
        try:
            yield running
        finally:  # Killed, it would leave them behind.
            running.terminate()
            await running.exit_code()
