"""The behaviour of the engine's reader and router of bodies, with the framework's own means."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY


class RequestBody:
    """The body of a request, with the limit that a route sets by `max_body_size`."""

    def __init__(self, request: Request, limit: int) -> None:
        self.request = request
        request.scope[MAX_BODY_SIZE_SCOPE_KEY] = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.request.stream():
            if chunk:  # The last one is empty.
                yield chunk

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self])


class TransformRouter(APIRouter):
    """Responses that read the request while they are sent."""

    def transform(self, path: str, *, takes: str, gives: str) -> Callable[[Any], Any]:
        def register(function: Any) -> Any:
            @self.post(path)
            async def operation(request: Request) -> StreamingResponse:
                body = RequestBody(request, request.app.state.settings.download.max_transform)
                return StreamingResponse(function(body), media_type=gives)

            return function

        return register
