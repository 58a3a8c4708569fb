"""A traced stream, whose client does not read."""

from typing import Any

from opentelemetry.trace import StatusCode

from {{cookiecutter.package_name}}.engine.streams import ByteStream

from ..service import Service
from ..streams.test_pull import Source, route
from .conftest import Exporter, attribute


async def test_a_client_that_does_not_read_is_no_error(exporter: Exporter, serve: Any) -> None:
    router = route(lambda: ByteStream(Source().endless()))
    service: Service = await serve(router, streaming={"send_timeout": 0.2})
    async with service.raw_connection(receive_buffer=4096) as peer:
        await peer.get("/stream")
        await peer.read_head()
        span = await exporter.span_of("/stream")

    assert span.status.status_code is StatusCode.OK
    assert attribute(span, "outcome") == "slow_client"
