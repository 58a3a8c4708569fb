"""A module that an owner might add: a database table, routes, a middleware, and tests."""

#: Texts and their replacements, by file; `{package}` is the name of the package.
Edits = dict[str, list[tuple[str, str]]]

ORDERS = '''\
"""Orders: rows of a table."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import aiosqlite
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse

router = APIRouter(prefix="/orders", tags=["orders"])


class Order(BaseModel):
    """A row of the table."""

    id: int
    title: str


class OrderExists(Exception):
    """There is an order with this id."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, aiosqlite.Connection]]:
    async with aiosqlite.connect("orders.sqlite3") as database:
        await database.execute(
            "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, title TEXT NOT NULL)"
        )
        yield {"database": database}


async def get_database(request: Request) -> aiosqlite.Connection:
    database: aiosqlite.Connection = request.state.database
    return database


DatabaseDep = Annotated[aiosqlite.Connection, Depends(get_database)]


@router.post("", status_code=201)
async def create_order(order: Order, database: DatabaseDep) -> Order:
    try:
        await database.execute("INSERT INTO orders VALUES (?, ?)", (order.id, order.title))
    except aiosqlite.IntegrityError:
        raise OrderExists(order.id) from None
    await database.commit()
    return order


@router.get("/{order_id}")
async def read_order(order_id: int, database: DatabaseDep) -> Order:
    async with database.execute("SELECT * FROM orders WHERE id = ?", (order_id,)) as cursor:
        row = await cursor.fetchone()
    if row is None:
        raise HTTPException(404, "Order not found")
    return Order(id=row[0], title=row[1])


async def order_exists(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"exists": error.args[0]}, status_code=409)
'''

MIDDLEWARE = '''\
"""How long requests take."""

import time

from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response


class ProcessTime(BaseHTTPMiddleware):
    """Adds `X-Process-Time` to every response."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        start = time.perf_counter()
        response = await call_next(request)
        response.headers["X-Process-Time"] = f"{time.perf_counter() - start:.6f}"
        return response
'''

TESTS = '''\
"""Orders."""

import httpx
from fastapi.testclient import TestClient

from PACKAGE.app import create_app
from PACKAGE.engine.testing import credentials
from PACKAGE.settings import Settings

ORDER = {"id": 1, "title": "Tea"}


def test_an_order_is_created_once(settings: Settings) -> None:
    app = create_app(settings)
    with TestClient(app) as client:
        client.headers.update(credentials(app))
        created = client.post("/orders", json=ORDER)
        again = client.post("/orders", json=ORDER)
        read = client.get("/orders/1")

    assert (created.status_code, again.status_code, read.status_code) == (201, 409, 200)
    assert again.json() == {"exists": 1}
    assert read.json() == ORDER


def test_a_client_without_lifespan_reads_the_documentation(settings: Settings) -> None:
    client = TestClient(create_app(settings))

    assert "/orders" in client.get("/openapi.json").json()["paths"]


async def test_orders_are_kept_on_a_real_server(client: httpx.AsyncClient) -> None:
    await client.post("/orders", json=ORDER)
    response = await client.get("/orders/1")
    missing = await client.get("/orders/2")

    assert response.json() == ORDER
    assert float(response.headers["x-process-time"]) > 0
    assert missing.status_code == 404
'''

ADDED_FILES = {
    "src/{package}/orders.py": ORDERS,
    "src/{package}/middleware.py": MIDDLEWARE,
    "tests/test_orders.py": TESTS,
}
ADDED: Edits = {
    "pyproject.toml": [("dependencies = [\n", 'dependencies = [\n    "aiosqlite>=0.20",\n')],
    "src/{package}/app.py": [
        (
            "from .settings import Settings\n",
            "from .middleware import ProcessTime\n"
            "from .orders import OrderExists, lifespan, order_exists, router as orders_router\n"
            "from .settings import Settings\n",
        ),
        ("    )\n", "        lifespan=lifespan,\n    )\n"),
        (
            "    return app\n",
            "    app.include_router(orders_router)\n"
            "    app.add_middleware(ProcessTime)\n"
            "    app.add_exception_handler(OrderExists, order_exists)\n"
            "    return app\n",
        ),
    ],
}
