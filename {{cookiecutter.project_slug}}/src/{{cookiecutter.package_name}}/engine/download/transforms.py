"""Transforms: request bodies that are converted and sent back while they arrive.

They are for clients that read while they write, such as curl and node. A client that writes all of
a large body before it reads blocks until a deadline ends the request, because the service waits for
it to read.
"""

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response

from ..kernel.admission import Admission
from ..kernel.body import RequestBody
from ..streams.content import refuse_coding, require_text
from ..streams.pull import ByteStream

Transform = TypeVar("Transform", bound=Callable[[AsyncIterator[bytes]], AsyncGenerator[bytes]])

_ADMISSION = Depends(Admission("download"))


class TransformRouter(APIRouter):
    """An APIRouter with one more decorator, for asynchronous generators of bytes."""

    def transform(
        self, path: str, *, takes: str, gives: str, **options: Any
    ) -> Callable[[Transform], Transform]:
        """Register a generator, `async def …(body) -> AsyncGenerator[bytes]`, for POST.

        `takes` and `gives` are its media types. Text has to be UTF-8; otherwise the `Content-Type`
        of a request is not checked. `options` are those of `APIRouter.post`.
        """
        check = require_text if takes.startswith("text/") else refuse_coding

        def register(function: Transform) -> Transform:
            usual: dict[str, Any] = {
                "name": f"transform_{function.__name__}",
                "description": inspect.getdoc(function),
                "response_class": Response,
                "responses": {200: {"content": {gives: {}}}, 408: {}, 413: {}, 415: {}},
                "openapi_extra": {"requestBody": {"content": {takes: {}}}},
            }
            dependencies = [_ADMISSION, *options.get("dependencies", ())]

            @self.post(path, **(usual | options | {"dependencies": dependencies}))
            async def send(request: Request) -> ByteStream:
                check(request)
                body = RequestBody(request, request.app.state.settings.download.max_transform)
                return ByteStream(function(body), media_type=gives, duplex=True)

            return function

        return register
