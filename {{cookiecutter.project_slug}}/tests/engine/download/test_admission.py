"""Admission: a stream above the limit is refused, and admitted when another has ended."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import APIRouter

from {{cookiecutter.package_name}}.engine.download import ExportRouter
from {{cookiecutter.package_name}}.exports import Line

from ..peer import PATIENCE
from ..service import Service
from ..storage.stored import store

REQUEST = "{} {} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n"


def endless_export() -> APIRouter:
    router = ExportRouter(prefix="/exports")

    @router.export("/endless")
    async def endless() -> AsyncGenerator[Line]:
        while True:
            yield Line(number=1, text="line")

    return router


@pytest.mark.parametrize(
    ("method", "address", "route"),
    [
        ("GET", "/files/ID", "/files/{file_id}"),
        ("GET", "/archive?id=ID", "/archive"),
        ("GET", "/exports/endless", "/exports/endless"),
        ("POST", "/transform/upper", "/transform/upper"),
    ],
)
@pytest.mark.bound("H8")
async def test_more_streams_than_there_are_slots_are_refused(
    serve: Any, method: str, address: str, route: str
) -> None:
    patient = {"send_timeout": PATIENCE, "idle_timeout": PATIENCE}
    service: Service = await serve(endless_export(), streaming={"max_streams": 1, **patient})
    address = address.replace("ID", await store(service, bytes(32 << 20)))
    length = 2 if method == "POST" else 0
    async with service.raw_connection(receive_buffer=4096) as peer, service.client() as client:
        await peer.send(REQUEST.format(method, address, length).encode() + b"x"[:length])
        assert b" 200 " in await peer.read_head()  # Nothing else is sent.

        async with client.stream(method, address) as refused:
            assert (refused.status_code, refused.headers.get("retry-after")) == (503, "1")
        assert await service.outcome_of(f"{method} {route}") == "rejected"

        peer.reset()
        assert await service.outcome_of(f"{method} {route}") == "client_abort"
        async with client.stream(method, address) as admitted:
            assert admitted.status_code == 200
