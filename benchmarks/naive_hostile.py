"""A bare application for attacks. For measurements only.

python -m uvicorn naive_hostile:app
"""

from collections.abc import AsyncGenerator

import anyio
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from starlette.websockets import WebSocketDisconnect

app = FastAPI()


@app.get("/health/live")
async def live() -> dict[str, str]:
    return {"status": "live"}


@app.post("/body")
async def body(request: Request) -> dict[str, int]:
    return {"size": sum([len(chunk) async for chunk in request.stream()])}


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def events() -> AsyncGenerator[str]:
        yield ": open\n\n"
        await anyio.sleep_forever()

    return StreamingResponse(events(), media_type="text/event-stream")


@app.websocket("/ws")
async def converse(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.receive()
    except (WebSocketDisconnect, RuntimeError):
        pass
