"""The call path of a raw upload through the engine: short, and only from upper to lower layers."""

import threading
from itertools import groupby
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from {{cookiecutter.package_name}} import engine

from ..service import Service

pytestmark = pytest.mark.local

ENGINE = Path(engine.__file__).parent
STORE, WRITER = "the store", "storage/writer.py"
#: The common part of all stores, and the one of a directory.
STORE_FILES = ("storage/base.py", "storage/local.py")
#: The server calls the application, real-time events are published by callbacks, and only tests
#: write the log with `testing.py`.
OUTSIDE = ("server/", "realtime/", "testing.py")
#: Limits of the functions, and of the files that they are in, between these two and the disk.
MAX_FUNCTIONS = 120
MAX_FILES = 31


class Trace:
    """The calls of the engine's functions in all threads of a service, while it is on."""

    def __init__(self) -> None:
        self.on = False
        #: A coroutine has one frame, which is called again each time that it is resumed.
        self._frames: set[FrameType] = set()
        self.calls: list[CodeType] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        is_new = self.on and event == "call" and frame not in self._frames
        if is_new and frame.f_code.co_filename.startswith(str(ENGINE)):
            self._frames.add(frame)
            self.calls.append(frame.f_code)

    def end(self) -> list[CodeType]:
        self.on = False
        calls, self.calls, self._frames = self.calls, [], set()
        return calls


def file_of(code: CodeType) -> str:
    return Path(code.co_filename).relative_to(ENGINE).as_posix()


def functions(calls: list[CodeType]) -> set[tuple[str, str]]:
    """Return the file and the name of each called function, without lambdas and comprehensions."""
    named = (code for code in calls if not code.co_name.startswith("<"))
    return {(file_of(code), code.co_qualname) for code in named}


@pytest.fixture
async def uploads(serve: Any) -> list[list[CodeType]]:
    """The calls of three raw uploads of 3 MiB, one after the other."""
    traces = []
    trace = Trace()
    threading.setprofile(trace)
    try:
        service: Service = await serve()
        async with service.client() as client:
            await client.post("/files", content=b"The first request fills caches.")
            await service.ended("POST /files")
            for _ in range(3):
                trace.on = True
                response = await client.post("/files", content=bytes(3 << 20))
                await service.ended("POST /files")
                traces.append(trace.end())
                assert response.status_code == 201
    finally:
        threading.setprofile(None)
    return traces


async def test_the_path_through_the_engine_is_short(uploads: list[list[CodeType]]) -> None:
    # Functions that only some uploads call are those of timers and of slow clients or disks.
    always = set.intersection(*map(functions, uploads))
    called = {each for each in always if not each[0].startswith(OUTSIDE)}

    assert len(called) <= MAX_FUNCTIONS, sorted(called)
    assert len({file for file, _ in called}) <= MAX_FILES


async def test_a_commit_goes_from_the_writer_down_into_the_store(
    uploads: list[list[CodeType]],
) -> None:
    calls = uploads[0]
    names = [code.co_qualname for code in calls]
    commit = calls[names.index("BaseStorage.commit") : names.index("LocalWriter.close")]
    files = [STORE if file in STORE_FILES else file for file in map(file_of, commit)]
    between = [file for file in files if file in (STORE, WRITER)]

    assert [file for file, _ in groupby(between)] == [STORE, WRITER, STORE]
