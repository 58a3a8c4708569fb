"""Texts that formats and parsers are known to change arrive exactly, in every format of a run."""

from typing import Any

import pydantic_core
import pytest

from ..service import Service
from .parsers import EventStreamParser, JsonLinesParser, Record
from .runs import Script, start

#: Ends of lines of some programs, spaces, marks, and characters with a meaning in a format.
MARKS = [
    *("\n", "\r", "\r\n", "\n\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\u2028"),
    *("\u2029", "\ufeff", "\0", "\x7f", "\t", " ", "\xa0", "\u3000", "\u200b", "\u202e", "\ufffe"),
    *("\U0001f600", "\U0001f469\u200d\U0001f467", "\U0010ffff", '"', "\\", ":", "\\u0000"),
    *("\n\n", "data: ", "event: end\n", "[DONE]", "0\r\n\r\n", "</script>", '{"type":"end"}'),
]
#: Each at the beginning, in the middle, at the end, and alone.
SHORT = [text for mark in MARKS for text in (f"{mark}a", f"a{mark}b", f"a{mark}", mark)]
TEXTS = ["", *SHORT, "".join(MARKS), "a" * (64 << 10), "\u2028" * (16 << 10), "\n" * (16 << 10)]


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def service(serve: Any, script: Script) -> Service:
    started: Service = await serve(script.router)
    return started


async def records(service: Service, run_id: str, parser: Any) -> list[Record]:
    """Read a run in a format to its end."""
    found: list[Record] = []
    headers = {"Accept": parser.media_type}
    path = f"/runs/{run_id}/events"
    async with service.client() as client, client.stream("GET", path, headers=headers) as response:
        assert response.headers["content-type"].partition(";")[0] == parser.media_type
        async for data in response.aiter_raw(1009):
            found.extend(parser.feed(data))
    assert found.pop().event == "end"
    return found


@pytest.mark.parametrize("format_", [EventStreamParser, JsonLinesParser])
async def test_texts_in_json_arrive_exactly(format_: Any, service: Service, script: Script) -> None:
    run_id = await start(service)
    await script.say(service, *({"type": "text", "text": text} for text in TEXTS), None)
    found = await records(service, run_id, format_())

    assert [pydantic_core.from_json(record.data)["text"] for record in found] == TEXTS
    assert len({record.id for record in found}) == len(TEXTS)


async def test_plain_texts_arrive_exactly_as_json_lines(service: Service, script: Script) -> None:
    run_id = await start(service)
    await script.say(service, *TEXTS, None)

    found = await records(service, run_id, JsonLinesParser())
    assert [record.data for record in found] == TEXTS


async def test_plain_texts_arrive_exactly_as_events_but_for_the_ends_of_lines(
    service: Service, script: Script
) -> None:
    run_id = await start(service)
    await script.say(service, *TEXTS, None)

    found = await records(service, run_id, EventStreamParser())
    lines = [text.replace("\r\n", "\n").replace("\r", "\n") for text in TEXTS]
    assert [record.data for record in found] == lines
