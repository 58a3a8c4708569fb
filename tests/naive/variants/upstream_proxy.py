"""Passes bytes between clients and another service."""

import asyncio
import zlib
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Annotated

import httpx
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import PlainTextResponse, StreamingResponse

from app_settings import Settings, get_settings
from streaming_kit import BINARY_DOC, SAFE_HEADERS, ClosingStream, limited_body, primed

router = APIRouter(prefix="/proxy")
Config = Annotated[Settings, Depends(get_settings)]
LIMITS = httpx.Limits(max_connections=100)


async def get_client(settings: Config):
    async with httpx.AsyncClient(base_url=settings.upstream, timeout=30, limits=LIMITS) as client:
        yield client


Client = Annotated[httpx.AsyncClient, Depends(get_client)]


@router.get("/items/{item_id}")  # trap: E7
async def relay(item_id: int, settings: Config):
    async def body():
        async with httpx.AsyncClient() as client:
            async with client.stream("GET", f"{settings.upstream}/items/{item_id}") as upstream:
                upstream.raise_for_status()
                async for piece in upstream.aiter_bytes():
                    yield piece

    return StreamingResponse(body())


@router.get("/lenient/{item_id}")  # trap: E7
async def relay_leniently(item_id: int, client: Client):
    upstream = await client.send(client.build_request("GET", "/items/%d" % item_id), stream=True)

    async def body():
        try:
            async for piece in upstream.aiter_raw():
                yield piece
        except httpx.HTTPError:  # trap: D13
            pass
        finally:
            await upstream.aclose()

    return StreamingResponse(body(), upstream.status_code, media_type=upstream.headers.get("content-type"))


@router.get("/pumped/{item_id}")  # trap: E7
async def relay_by_queue(item_id: int, client: Client):
    queue = asyncio.Queue()  # trap: R8

    async def pump():
        async with client.stream("GET", "/items/{}".format(item_id)) as upstream:
            with suppress(httpx.HTTPError):  # missed: D13
                async for piece in upstream.aiter_bytes():
                    await queue.put(piece)
        await queue.put(None)

    asyncio.create_task(pump())

    async def body():
        while (piece := await queue.get()) is not None:
            yield piece

    return StreamingResponse(body())


@router.post("/compress")  # trap: E7
async def compress(request: Request):
    async def body():
        packer = zlib.compressobj()
        async for piece in request.stream():
            yield packer.compress(piece)
        yield packer.flush()

    return StreamingResponse(body(), media_type="application/zlib")


@router.post("/echo")  # trap: E7
async def echo(request: Request):
    async def parts():
        data = await request.body()  # trap: U10
        for at in range(0, len(data), 4096):
            yield data[at : at + 4096]
            await asyncio.sleep(0)

    return StreamingResponse(parts(), media_type="application/octet-stream")


@router.post("/upload/{item_id}")
async def forward_upload(item_id: int, request: Request, client: Client, settings: Config):
    source = limited_body(request, settings.max_body, settings.idle, settings.min_rate)
    async with aclosing(source):
        answer = await client.put(f"/items/{item_id}", content=source)
    if answer.is_error:
        raise HTTPException(502, "upstream refused")
    return {"status": answer.status_code}


@router.get("/status")
async def upstream_status(client: Client):
    try:
        answer = await client.get("/status")
    except httpx.HTTPError as exc:
        return PlainTextResponse(f"upstream failed: {exc}", status_code=502)  # trap: E5, E12
    return {"status": answer.status_code}


@router.get("/v2/items/{item_id}", response_class=ClosingStream, responses=BINARY_DOC)
async def relay_safely(item_id: int, settings: Config):
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=settings.upstream, timeout=30))
        try:
            upstream = await stack.enter_async_context(client.stream("GET", f"/items/{item_id}"))
        except httpx.HTTPError as exc:
            raise HTTPException(502, "upstream failed") from exc
        if upstream.is_error:
            raise HTTPException(502, "upstream failed")
        owned = stack.pop_all()

    async def body():
        async with owned:
            async for piece in upstream.aiter_bytes():
                yield piece

    try:
        ready = await primed(body())
    except httpx.HTTPError as exc:
        raise HTTPException(502, "upstream failed") from exc
    return ClosingStream(ready, media_type="application/octet-stream", headers=SAFE_HEADERS)


@router.post("/v2/compress", response_class=PlainTextResponse)
async def compress_safely(request: Request, settings: Config):
    packer, size = zlib.compressobj(), 0
    async for piece in limited_body(request, settings.max_body, settings.idle, settings.min_rate):
        size += len(packer.compress(piece))
    return PlainTextResponse(str(size + len(packer.flush())), headers=SAFE_HEADERS)
