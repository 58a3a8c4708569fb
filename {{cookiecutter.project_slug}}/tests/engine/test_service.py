"""FastAPI works as usual in a `Service`, in any order of the lines of `app.py`."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.staticfiles import StaticFiles

from {{cookiecutter.package_name}}.engine.kernel import Measure, Problem
from {{cookiecutter.package_name}}.engine.kernel.part import Part
from {{cookiecutter.package_name}}.engine.service import Service
from {{cookiecutter.package_name}}.engine.settings import ServiceSettings
from {{cookiecutter.package_name}}.engine.testing import LiveServer

Line = Callable[[Service], object]


class Teapot(Exception):
    """An error of the owner."""


async def tea(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{type(error).__name__}: {error}", 418)


class Stamp(BaseHTTPMiddleware):
    """A middleware like those in Starlette's documentation."""

    async def dispatch(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        if request.url.path == "/closed":
            return PlainTextResponse("closed", 403)
        response = await call_next(request)
        response.headers["X-Stamp"] = "owner"
        return response


router = APIRouter()


async def database() -> str:
    return "real"


@router.get("/database")
async def ask(name: Annotated[str, Depends(database)]) -> str:
    return name


@router.get("/state")
async def state(request: Request) -> str:
    return str(request.state.database)


@router.get("/teapot")
async def teapot() -> None:
    raise Teapot("short and stout")


@router.get("/bug")
async def bug() -> None:
    raise ZeroDivisionError("a bug")


@router.get("/refusal")
async def refusal() -> None:
    raise Problem(409, "Not now.")


LINES: dict[str, Line] = {
    "routes": lambda app: app.include_router(router),
    "middleware": lambda app: app.add_middleware(Stamp),
    "handler": lambda app: app.add_exception_handler(Teapot, tea),
    "last": lambda app: app.add_exception_handler(Exception, tea),
    "overrides": lambda app: app.dependency_overrides.update({database: lambda: "fake"}),
}


class Parts(Part):
    """A part that records when it is opened and closed."""

    def __init__(self, notes: list[str], name: str, rank: int) -> None:
        self.notes, self.name, self.rank = notes, name, rank

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncGenerator[None]:
        self.notes.append(f"{self.name} opens")
        yield
        self.notes.append(f"{self.name} closes")


def make(*parts: Part, **options: Any) -> Service:
    settings: Any = ServiceSettings
    return Service(settings(_env_file=None), *parts, **options)


async def get(app: Service, path: str) -> httpx.Response:
    async with LiveServer(app) as service, service.client() as client:
        return await client.get(path)


@pytest.mark.parametrize("first", LINES)
async def test_the_lines_of_an_owner_may_stand_in_any_order(first: str) -> None:
    app = make()
    names = list(LINES)
    start = names.index(first)
    for name in [*names[start:], *names[:start]]:
        LINES[name](app)

    async with LiveServer(app) as service, service.client() as client:
        paths = ("/database", "/teapot", "/bug", "/refusal", "/closed")
        answers = [await client.get(path) for path in paths]

    assert [answer.status_code for answer in answers] == [200, 418, 418, 409, 403]
    assert answers[0].json() == "fake"
    assert answers[0].headers["x-stamp"] == "owner"
    assert answers[1].text == "Teapot: short and stout"
    assert answers[2].text == "ZeroDivisionError: a bug"
    # The engine's middleware is outermost.
    assert all("x-request-id" in answer.headers for answer in answers)
    assert all("x-content-type-options" in answer.headers for answer in answers)


@pytest.mark.parametrize("key", [500, Exception])
async def test_a_handler_of_everything_answers_a_bug(key: Any) -> None:
    app = make()
    app.include_router(router)
    app.exception_handler(key)(tea)

    answer = await get(app, "/bug")

    assert (answer.status_code, answer.text) == (418, "ZeroDivisionError: a bug")


@pytest.mark.parametrize("given", ["option", "decorator"])
async def test_a_handler_of_the_owner_comes_before_that_of_the_engine(given: str) -> None:
    if given == "option":
        app = make(exception_handlers={404: tea})
    else:
        app = make()
        app.exception_handler(404)(tea)

    assert (await get(app, "/nothing")).status_code == 418


async def test_the_lifespan_of_the_owner_is_within_that_of_the_parts() -> None:
    notes: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, str]]:
        notes.append("owner opens")
        yield {"database": "open"}
        notes.append("owner closes")

    app = make(Parts(notes, "late", 20), Parts(notes, "early", 10), lifespan=lifespan)
    app.include_router(router)

    answer = await get(app, "/state")

    assert answer.json() == "open"
    opened = ["early opens", "late opens", "owner opens"]
    assert notes == [*opened, "owner closes", "late closes", "early closes"]


async def test_a_mount_is_reached_below_its_path(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("static", "utf-8")
    other = FastAPI()
    other.include_router(router)
    app = make()
    app.mount("/static", StaticFiles(directory=tmp_path))
    app.mount("/other", other)

    async with LiveServer(app) as service, service.client() as client:
        answers = [
            await client.get(path)
            for path in ("/static/a.txt", "/static/none", "/other/database", "/other/bug")
        ]

    assert [answer.status_code for answer in answers] == [200, 404, 200, 500]
    assert answers[0].text == "static"
    assert answers[2].json() == "real"
    assert all("x-request-id" in answer.headers for answer in answers)


async def test_a_page_of_the_owner_takes_the_place_of_the_index() -> None:
    app = make()

    @app.get("/")
    async def page() -> str:
        return "mine"

    assert (await get(app, "/")).json() == "mine"
    assert (await get(make(), "/")).json()["docs"] == "/docs"


async def test_handlers_of_the_start_and_the_end_are_called() -> None:
    notes: list[str] = []
    app = make(on_startup=[lambda: notes.append("starts")])
    app.router.on_shutdown.append(lambda: notes.append("ends"))

    await get(app, "/health/live")

    assert notes == ["starts", "ends"]


class Counting(Part):
    """A part with a metric while it runs."""

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncGenerator[None]:
        app.state.kernel.measures.append(Measure("beans", "Counted.", "counter", lambda: 2))
        yield


async def test_an_application_can_be_started_again() -> None:
    app = make(Counting())

    for _ in range(2):
        async with LiveServer(app) as service, service.client() as client:
            assert "beans_total 2.0" in (await client.get("/metrics")).text
        assert "beans" not in [measure.name for measure in app.state.kernel.measures]


async def test_collections_leave_out_what_the_start_has_made() -> None:
    assert gc.get_freeze_count() == 0

    async with LiveServer(make()):
        assert gc.get_freeze_count() > 0

    assert gc.get_freeze_count() == 0


async def test_two_applications_in_one_process_share_nothing() -> None:
    settings: Any = ServiceSettings
    small: ServiceSettings = settings(
        _env_file=None,
        server={"max_header_size": 1024, "allowed_hosts": "small"},
        cors={"origins": "https://small.example"},
    )
    big: ServiceSettings = settings(_env_file=None, server={"allowed_hosts": "big"})
    one, other = Service(small), Service(big)
    one.include_router(router)
    one.dependency_overrides[database] = lambda: "fake"
    other.include_router(router)
    requests: list[dict[str, str]] = [
        {},
        {"X-Long": "x" * 2000},
        {"Host": "small"},
        {"Host": "big"},
        {"Origin": "https://small.example"},
    ]

    async with LiveServer(one) as first, LiveServer(other) as second:
        servers = (first, second)
        answers = [
            await asyncio.gather(*(ask_with(server, headers) for server in servers))
            for headers in requests
        ]

    statuses = [(one.status_code, two.status_code) for one, two in answers]
    assert statuses == [(200, 200), (431, 200), (200, 421), (421, 200), (200, 200)]
    assert [answer.json() for answer in answers[0]] == ["fake", "real"]
    allowed = [answer.headers.get("access-control-allow-origin") for answer in answers[-1]]
    assert allowed == ["https://small.example", None]


async def ask_with(service: LiveServer, headers: dict[str, str]) -> httpx.Response:
    async with service.client() as client:
        return await client.get("/database", headers=headers)


class Cup(Part):
    """A part that another one needs."""


class Tea(Part):
    """A part that needs a cup."""

    needs = (Cup,)


def test_a_part_that_another_one_needs_is_named_when_it_is_missing() -> None:
    with pytest.raises(TypeError, match=r"Tea\(\) needs Cup\(\)"):
        Service(ServiceSettings(), Tea())
