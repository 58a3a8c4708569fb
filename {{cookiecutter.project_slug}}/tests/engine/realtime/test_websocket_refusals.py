"""WebSockets: refusals before and after the handshake, and their problems."""

from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.kernel import Problem

from ..service import Service
from .conversation import BINARY, CLOSE, ROUTE, TEXT, converse, frame, refusal, shake_hands
from .subscriber import publish


@pytest.mark.parametrize("topics", ["a*", "x" * 129, ",", ",".join(map(str, range(33)))])
async def test_malformed_topics_are_refused_in_place_of_the_handshake(
    service: Service, topics: str
) -> None:
    response, document = await refusal(service, topics)

    assert (response.status_code, "topic" in document["detail"]) == (422, True)
    assert response.headers["content-type"] == service.app.state.kernel.media_type
    assert await service.outcome_of(ROUTE) == "rejected"


async def test_a_draining_service_refuses_the_handshake(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    await service.call(service.app.state.kernel.drain.begin)
    response, document = await refusal(service, "news")

    assert (response.status_code, document["detail"]) == (503, "The service is shutting down.")
    assert int(response.headers["retry-after"]) >= 1
    assert await service.outcome_of(ROUTE) == "rejected"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_too_many_connections_of_one_client_are_refused(serve: Any) -> None:
    service: Service = await serve(streaming={"max_streams_per_client": 1})
    async with converse(service, "news"):
        response, document = await refusal(service, "news")

    assert (response.status_code, document["detail"]) == (429, "You have too many streams.")
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("origin", "sections", "accepted"),
    [
        ("http://evil.example", {}, False),
        ("null", {}, False),
        ("http://evil.example", {"server": {"public_url": "https://topics.example"}}, False),
        ("https://app.example", {"cors": {"origins": "https://x.example"}}, False),
        ("{own}", {}, True),
        ("https://topics.example", {"server": {"public_url": "https://topics.example"}}, True),
        ("https://app.example", {"cors": {"origins": "https://x, https://app.example/"}}, True),
        ("https://app.example", {"cors": {"origins": "*"}}, True),
        (None, {}, True),
    ],
)
async def test_only_pages_of_known_origins_may_connect(
    serve: Any, origin: str | None, sections: dict[str, Any], accepted: bool
) -> None:
    service: Service = await serve(**sections)
    if origin is not None:
        origin = origin.replace("{own}", service.url)
    if accepted:
        async with converse(service, "news", origin=origin) as client:
            assert client.greeting["type"] == "subscribed"
    else:
        assert (await refusal(service, "news", origin=origin))[0].status_code == 403


@pytest.mark.parametrize(
    ("text", "pointers"),
    [
        ("nonsense", [""]),
        ("[]", [""]),
        ('{"type": "shout"}', [""]),
        ('{"type": "publish", "topic": 1}', ["/topic", "/data"]),
        ('{"type": "subscribe", "topics": ["a"], "last_event": "x"}', ["/last_event"]),
        ('{"type": "subscribe", "topics": [1]}', ["/topics/0"]),
        ('{"type": "publish", "topic": "a", "data": NaN}', ["/body"]),
        ('{"type": "publish", "topic": "a", "data": ' + "[" * 10_000, [""]),
        ('{"type": "publish", "topic": "a", "data": 1, "event": "reset"}', ["/query/event"]),
    ],
)
async def test_what_is_no_command_is_told_and_the_connection_goes_on(
    service: Service, text: str, pointers: list[str]
) -> None:
    async with converse(service, "news") as client:
        await client.socket.send(text)
        told = await client.next()
        await publish(service, "news", "on")

        assert (told["type"], told["problem"]["status"]) == ("error", 422)
        assert [error["pointer"] for error in told["problem"]["errors"]] == pointers
        assert await client.data(1) == ["on"]


@pytest.mark.parametrize("topics", [["a*"], [""], [], [str(n) for n in range(32)]])
async def test_topics_that_cannot_be_followed_are_told_and_none_is(
    service: Service, topics: list[str]
) -> None:
    async with converse(service, "news") as client:
        told = await client.ask("subscribe", topics=topics, ref="r")
        await client.ask("publish", topic="0", data="not for it")
        await publish(service, "news", "on")

        assert (told["type"], told["ref"], told["problem"]["status"]) == ("error", "r", 422)
        assert await client.data(1) == ["on"]


async def test_a_full_topic_is_told_and_leaves_no_subscription(serve: Any) -> None:
    service: Service = await serve(realtime={"max_per_topic": 1})
    async with converse(service, "full"), converse(service, "news") as client:
        told = await client.ask("subscribe", topics=["free", "full"])
        assert told["problem"]["status"] == 503
        async with converse(service, "free") as other:
            assert other.greeting["topics"] == ["free"]


@pytest.mark.bound("H20")
async def test_an_event_that_is_too_large_is_told(serve: Any) -> None:
    service: Service = await serve(realtime={"max_event_size": 1000})
    async with converse(service, "news") as client:
        told = await client.ask("publish", topic="news", data="x" * 999, ref=1)

    assert (told["ref"], told["problem"]["status"]) == (1, 413)


@pytest.mark.bound("H27")
async def test_a_client_that_publishes_too_often_is_told(serve: Any) -> None:
    service: Service = await serve(realtime={"publish_rate": 1})
    async with converse(service, "x") as client:
        assert (await client.ask("publish", topic="news", data=1))["type"] == "ack"
        told = await client.ask("publish", topic="news", data=2, ref="r")

    assert (told["ref"], told["problem"]["status"]) == ("r", 429)


async def test_a_broker_that_does_not_answer_is_told(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: object) -> str:
        raise Problem(503, "The broker does not answer.")

    monkeypatch.setattr(service.app.state.hub, "publish", unavailable)
    async with converse(service, "news") as client:
        told = await client.ask("publish", topic="news", data=1, ref="r")
        await client.ask("unsubscribe", topics=[])

    assert (told["ref"], told["problem"]["detail"]) == ("r", "The broker does not answer.")


@pytest.mark.bound("H28")
async def test_a_client_that_keeps_sending_nonsense_is_closed(service: Service) -> None:
    async with converse(service, "news") as client:
        for _ in range(9):
            await client.socket.send("nonsense")
        await client.send("unsubscribe", topics=[])
        for _ in range(10):
            await client.socket.send("nonsense")
        told = [await client.next() for _ in range(20)]

        assert [frame["type"] for frame in told[8:11]] == ["error", "unsubscribed", "error"]
        assert await client.closed() == 1008
    assert await service.outcome_of(ROUTE) == "rejected"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(BINARY, b"x"), 1003),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007),
        # Only the header of the frame, which is refused before its payload.
        (b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"mask", 1009),
        (frame(TEXT, last=False) + frame(0, last=False) * 1100, 1009),
        (b"\x81\x01x", 1002),  # Not masked.
    ],
)
async def test_frames_that_are_not_taken_close_the_connection(
    service: Service, sent: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with service.raw_connection() as peer:
        await shake_hands(peer, "news")
        await peer.send(sent)
        closing = await peer.read_to_end() if code != 1003 else await peer.read_until(b"only")

    assert closing.partition(b"\x88")[2][1:3] == code.to_bytes(2, "big")
    assert await service.outcome_of(ROUTE) == "rejected"
    assert not [each for each in caplog.records if each.levelname == "ERROR" or each.exc_info]


@pytest.mark.fault("G42")
@pytest.mark.parametrize(
    "sent",
    [
        frame(TEXT, b"\xff"),
        frame(TEXT, b"\xc3", last=False) + frame(0, b"("),  # The character is cut by a fragment.
        frame(TEXT, b"x\xed\xa0\x80") * 2,
    ],
    ids=range(3),
)
async def test_text_that_is_not_utf_8_closes_the_connection_without_an_error_in_the_log(
    service: Service, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with service.raw_connection() as peer:
        await shake_hands(peer, "news")
        await peer.send(sent)
        closing = await peer.read_to_end()

    assert closing == b"\x88\x0b" + (1007).to_bytes(2, "big") + b"not UTF-8"
    assert await service.outcome_of(ROUTE) == "rejected"
    assert not [each for each in caplog.records if each.levelname == "ERROR" or each.exc_info]


async def test_a_character_may_be_in_two_fragments(service: Service) -> None:
    command = '{"type":"publish","topic":"news","data":"é"}'.encode()
    async with service.raw_connection() as peer:
        await shake_hands(peer, "news")
        at = command.index("é".encode()) + 1
        await peer.send(frame(TEXT, command[:at], last=False) + frame(0, command[at:]))
        await peer.read_until(b'"type":"ack"')
