"""A traced response, whose parts are written past the layers."""

from typing import Any

from fastapi import APIRouter
from opentelemetry.trace import StatusCode

from {{cookiecutter.package_name}}.engine.kernel.exchange import Exchange, Outcome
from {{cookiecutter.package_name}}.engine.streams.push import PushResponse, direct_writer

from ..service import Service
from ..streams.test_direct import Parts
from .conftest import Exporter


async def test_parts_are_written_past_the_layers_all_the_same(
    exporter: Exporter, serve: Any
) -> None:
    router, opened = APIRouter(), list[Parts]()

    class Response(PushResponse):
        async def open(self, exchange: Exchange) -> Parts:
            opened.append(Parts(exchange))
            return opened[-1]

    @router.get("/parts")
    async def parts() -> Response:
        return Response()

    service: Service = await serve(router)
    async with service.raw_connection() as peer:
        await peer.get("/parts")
        await peer.read_head()
        assert await service.call(lambda: direct_writer(opened[0].exchange.scope)) is not None
        await service.call(lambda: opened[0].put(b"1", b"2"))
        await service.call(lambda: opened[0].finish(b"3", Outcome.COMPLETE))
        assert await peer.read_until(b"0\r\n\r\n") == b"1\r\n1\r\n1\r\n2\r\n1\r\n3\r\n0\r\n\r\n"

    span = await exporter.span_of("/parts")
    assert span.status.status_code is StatusCode.UNSET
