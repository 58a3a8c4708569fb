"""A generated service that echoes WebSocket messages on `/echo`."""

import uvicorn  # type: ignore[import-not-found]
from fastapi import FastAPI, WebSocket  # type: ignore[import-not-found]
from streaming_service.app import create_app  # type: ignore[import-not-found]


async def echo(connection: WebSocket) -> None:
    await connection.accept()
    while (message := await connection.receive())["type"] == "websocket.receive":
        await connection.send({**message, "type": "websocket.send"})


def app() -> FastAPI:
    service = create_app()
    service.add_api_websocket_route("/echo", echo)
    return service


if __name__ == "__main__":
    uvicorn.run(
        app,
        factory=True,
        port=0,
        http="streaming_service.engine.server.protocol:Protocol",
        ws="streaming_service.engine.server.websocket:WebSocketConnection",
        ws_per_message_deflate=False,
        ws_max_size=16 << 20,  # the largest message of the suite
    )
