"""A generated service that echoes WebSocket messages on `/echo`."""

import uvicorn  # type: ignore[import-not-found]
from fastapi import FastAPI, WebSocket  # type: ignore[import-not-found]
from streaming_service.app import create_app  # type: ignore[import-not-found]
from streaming_service.engine.server.config import (  # type: ignore[import-not-found]
    ServerConfig,
)
from streaming_service.engine.server.websocket import (  # type: ignore[import-not-found]
    WebSocketConnection,
)
from streaming_service.settings import Settings  # type: ignore[import-not-found]


async def echo(connection: WebSocket) -> None:
    await connection.accept()
    while (message := await connection.receive())["type"] == "websocket.receive":
        await connection.send({**message, "type": "websocket.send"})


def app() -> FastAPI:
    service = create_app()
    service.add_api_websocket_route("/echo", echo)
    return service


if __name__ == "__main__":
    config = ServerConfig(app, Settings(), port=0, ws_max_size=16 << 20)
    config.load()
    assert config.ws_protocol_class is WebSocketConnection
    uvicorn.Server(config).run()
