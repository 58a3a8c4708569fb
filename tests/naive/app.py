"""The service as the tutorials write it, under the paths of ours: every trap can be seen on it.

A test of the template lays these files over a generated service and runs the tests of its traps:
each of them has to fail here.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.datastructures import UploadFile

from .settings import Settings
from .storage import FileRecord

COMMANDS: dict[str, Callable[..., None]] = {}


class Directory:
    """Files under the names that clients give them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        path = Path(os.path.join(self.root, name))
        # The one thing that is not naive here: what escapes stays in the test's own directory.
        if not path.resolve().is_relative_to(self.root.resolve().parents[1]):
            raise PermissionError("outside of the sandbox of the test")
        return path

    async def record(self, name: str) -> FileRecord:
        stat = self.path(name).stat()
        return FileRecord(id=name, filename=name, size=stat.st_size, created_at=stat.st_mtime)

    async def records(self) -> AsyncIterator[tuple[int, FileRecord]]:
        for position, path in enumerate(path for path in self.root.iterdir() if path.is_file()):
            yield position, await self.record(path.name)

    async def read(self, name: str, start: int, stop: int) -> AsyncIterator[bytes]:
        yield self.path(name).read_bytes()[start:stop]

    @asynccontextmanager
    async def create(self, draft: Any) -> AsyncIterator[Any]:
        async def write(data: bytes) -> None:
            self.path(draft.filename).write_bytes(data)

        async def commit() -> FileRecord:
            return await self.record(draft.filename)

        yield SimpleNamespace(write=write, commit=commit)


class Recorder:
    """What an access log does: it takes the start of a response for its end."""

    def __init__(self, app: Any, kernel: Any) -> None:
        self.app = app
        self.kernel = kernel

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        exchange = SimpleNamespace(
            method=scope.get("method"), route="", status=0, outcome="complete", bytes_in=0,
            bytes_out=0, started_at=0.0, ended_at=0.0, request_id="",
        )  # fmt: skip

        async def counted_receive() -> Any:
            message = await receive()
            exchange.bytes_in += len(message.get("body", b""))
            return message

        try:
            await self.app(scope, counted_receive, send)
        finally:
            # The naive log has the whole address, secrets and all; tests ask for the route.
            exchange.route = getattr(scope.get("route"), "path", "").replace(":path", "")
            exchange.query = scope.get("query_string", b"").decode()
            if scope["type"] == "http":
                self.kernel.observe(exchange)


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or Settings()
    app = FastAPI()
    subscribers: list[asyncio.Queue[str]] = []
    app.state.storage = Directory(Path(settings.storage.url.removeprefix("file:")))
    app.state.kernel = SimpleNamespace(
        observe=lambda _: None,
        channels=subscribers,
        streams=Counter(),
        drain=SimpleNamespace(begin=lambda: None),
    )
    add_files(app, app.state.storage)
    add_exports(app)
    add_topics(app, subscribers)

    @app.exception_handler(Exception)
    async def tell_everything(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 500)

    @app.middleware("http")
    async def time_it(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    # The middleware above would swallow what streams raise, and with it half of the other traps.
    app.user_middleware.clear()
    app.add_middleware(Recorder, kernel=app.state.kernel)
    return app


def add_files(app: FastAPI, directory: Directory) -> None:
    @app.get("/health/live")
    @app.get("/health/ready")
    async def healthy() -> str:
        return "ok"

    @app.post("/files", status_code=201)
    async def upload(request: Request, filename: str = "file") -> Any:
        if request.headers.get("content-type", "").startswith("multipart/"):
            form = await request.form()
            files = [value for value in form.values() if isinstance(value, UploadFile)]
            for file in files:
                directory.path(file.filename or "file").write_bytes(await file.read())
            return [{"id": file.filename, "filename": file.filename} for file in files]
        descriptor = os.open(directory.path(filename), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        async for chunk in request.stream():
            os.write(descriptor, chunk)
        os.close(descriptor)
        return {"id": filename, "filename": filename}

    @app.get("/files/{file_id:path}")
    async def download(file_id: str) -> StreamingResponse:
        def chunks() -> Any:
            with directory.path(file_id).open("rb") as file:
                while chunk := file.read(1024 * 1024):
                    yield chunk

        # A typo that one tutorial has spread; here for some files only, as it breaks every answer.
        field = "Content - Disposition" if file_id.endswith(".txt") else "Content-Disposition"
        return StreamingResponse(chunks(), headers={field: f"attachment; filename={file_id}"})


def add_exports(app: FastAPI) -> None:
    @app.get("/exports/lines")
    async def export(count: int = 10, fail_after: int | None = None) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            try:
                for number in range(1, count + 1):
                    if number - 1 == fail_after:
                        raise RuntimeError("the database went away")
                    yield json.dumps({"number": number, "text": f"line {number}"}) + "\n"
            except Exception as error:
                print(error)

        return StreamingResponse(lines())


def add_topics(app: FastAPI, subscribers: list[asyncio.Queue[str]]) -> None:
    @app.post("/topics/{topic}/events", status_code=202)
    async def publish(topic: str, request: Request) -> Any:
        text = (await request.body()).decode()
        for queue in subscribers:
            queue.put_nowait(text)
        return {"id": "0-0", "topic": topic}

    @app.get("/topics/{topics}/events")
    async def subscribe(topics: str) -> StreamingResponse:
        queue: asyncio.Queue[str] = asyncio.Queue()
        subscribers.append(queue)

        async def events() -> AsyncIterator[str]:
            yield "data: hello\n\n"
            while True:
                yield f"data: {await queue.get()}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")
