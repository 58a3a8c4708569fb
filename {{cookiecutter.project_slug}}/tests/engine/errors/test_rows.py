"""Rows that fail half-way end with the problem, in the same form as all other errors."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
from fastapi import APIRouter
from pydantic import BaseModel

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.kernel.body import TOO_LARGE
from {{cookiecutter.package_name}}.engine.streams import JsonLines

from ..service import Service
from .test_errors import TRACE

router = APIRouter()


class Row(BaseModel):
    a: int = 1


@router.get("/rows", response_class=JsonLines)
async def rows() -> JsonLines:
    async def source() -> AsyncGenerator[Row]:
        yield Row()
        raise Problem(507, "The disk is full.", type=TOO_LARGE)

    return JsonLines(source())


async def failure(service: Service, path: str, mark: str) -> tuple[str, dict[str, Any]]:
    """Return what a stream that is cut has sent before `mark`, and the document after it."""
    received = ""
    async with service.client() as client:
        try:
            async with client.stream("GET", path, headers={"traceparent": TRACE}) as response:
                async for text in response.aiter_text():
                    received += text
        except httpx.RemoteProtocolError:
            before, _, problem = received.partition(mark)
            document: dict[str, Any] = json.JSONDecoder().raw_decode(problem)[0]
            assert document["request_id"] == response.headers["x-request-id"]
            assert (document["instance"], document["trace_id"]) == (path, TRACE[3:35])
            assert await service.outcome_of(f"GET {path}") == "server_error"
            return before, document
    raise AssertionError("the stream ended as if it were whole")


async def test_rows_that_fail_end_with_the_problem(serve: Any) -> None:
    before, document = await failure(await serve(router), "/rows", '{"$error":')

    assert before == '{"a":1}\n'
    assert (document["type"], document["status"]) == ("/problems/too-large", 507)
    assert document["detail"] == "The disk is full."
