"""Fast path operations for the generated service and for a bare application.

python -m uvicorn overhead_routes:bare
"""

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse

CHUNK = b"x" * 1024
#: The data of an event of 1 KiB: `data: "…"`, and the blank line after it.
TEXT = "x" * (len(CHUNK) - len('data: ""\n\n'))

router = APIRouter(prefix="/overhead")


@router.get("/request")
async def answer() -> dict[str, str]:
    return {"status": "live"}


@router.get("/stream")
async def stream(count: int) -> StreamingResponse:
    return StreamingResponse(chunks(count))


@router.get("/events", response_class=EventSourceResponse)
async def events(count: int) -> AsyncIterable[str]:
    for _ in range(count):
        yield TEXT


async def chunks(count: int) -> AsyncGenerator[bytes]:
    for _ in range(count):
        yield CHUNK


bare = FastAPI()
bare.include_router(router)

#: With one simple middleware, as in most applications.
with_middleware = FastAPI()
with_middleware.include_router(router)


@with_middleware.middleware("http")
async def name_the_request(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.headers["X-Request-ID"] = "1"
    return response
