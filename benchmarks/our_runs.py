"""The generated service with a run of many tokens, started and followed by one request.

python our_runs.py PACKAGE
"""

import sys
from collections.abc import AsyncGenerator
from importlib import import_module
from typing import Any

import naive_runs
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from naive_runs import Text


def main(package: str) -> None:
    app_module: Any = import_module(f"{package}.app")
    cli: Any = import_module(f"{package}.engine.server.cli")

    def create_app(settings: object = None) -> FastAPI:
        app: FastAPI = app_module.create_app(settings)
        app.include_router(tokens(package))
        return app

    cli.main(create_app, import_module(f"{package}.settings").Settings, [])


def tokens(package: str) -> APIRouter:
    """Return a router with the run, and a path for each reader."""
    realtime: Any = import_module(f"{package}.engine.realtime")
    messages: Any = import_module(f"{package}.engine.realtime.messages")
    kernel: Any = import_module(f"{package}.engine.kernel")
    client_of: Any = import_module(f"{package}.engine.kernel.admission").client_of
    router: Any = realtime.RunRouter()
    makers = makers_of(package)

    def joined(found: list[Any]) -> list[Any]:
        texts = [Text.model_validate_json(message.data).text for message in found]
        return [messages.message_of(Text(text="".join(texts)))]

    @router.run("/runs/tokens", compact=joined)
    async def generate(count: int, pause: float = 0.0) -> AsyncGenerator[Text]:
        async for each in naive_runs.generate(count, pause):
            yield each

    @router.get("/tokens/{reader}", dependencies=[Depends(kernel.Admission("realtime"))])
    async def follow(
        reader: str, count: int, pause: float, request: Request, runs: realtime.RunsDep
    ) -> Response:
        run = await runs.attach(generate, {"count": count, "pause": pause}, client_of(request))
        response: Response = realtime.RunStream(runs, run.id, reader=makers[reader](run.id))
        return response

    made: APIRouter = router
    return made


def makers_of(package: str) -> dict[str, Any]:
    """Return functions that make a reader of a run, by the names of the formats."""
    readers: Any = import_module(f"{package}.engine.realtime.runs.readers")
    chat: Any = import_module(f"{package}.engine.realtime.chat")
    return {
        "events": lambda _: readers.EventStreamReader(),
        "lines": lambda _: readers.JsonLinesReader(),
        "text": lambda _: readers.TextReader(),
        "openai": lambda run_id: chat.ChunkReader(run_id, "model"),
        "ai-sdk": chat.UIMessageReader,
        "ag-ui": lambda run_id: chat.AGUIReader(run_id, {"threadId": "1", "runId": "1"}),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
