"""A model of uploads: whatever two clients do to an upload, no byte is lost or wrong.

Hypothesis generates their steps, and reports them when a test fails. The model has two numbers: the
acknowledged offset, below which the offset must not fall, and the last byte sent, above which it
cannot be.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from .. import stores
from ..peer import PATIENCE
from ..service import SOAK, Service
from ..storage.stored import buffered, bytes_of
from ..upload.uploads import sha256
from .chunks import CONTENT, WRONG, Chunk, Sending, check_fields
from .tus import Tus, id_of, in_pieces, settle

T = TypeVar("T")
SIZES = st.one_of(st.integers(0, 2000), st.integers(0, len(CONTENT)))
CHECKS = st.sampled_from(["none", "none", "right", "wrong"])
CHUNKS = st.builds(Chunk, SIZES, CHECKS, st.booleans())
#: Less than a block, about a block, and several blocks.
LENGTHS = st.sampled_from([0, 1, 1000, 100_000, 1 << 20, (1 << 20) + 1, len(CONTENT)])
CLIENTS = st.integers(0, 1)


@dataclass
class World:
    """Shared by all examples: the service, and the event loop of the clients."""

    runner: asyncio.Runner
    service: Service
    tus: Tus
    data: Path
    ended: list[Any] = field(default_factory=list)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asyncio.wait_for(work, PATIENCE))


class Clients(RuleBasedStateMachine):
    """Two clients of one upload."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.sending: list[Sending | None] = [None, None]
        #: Whether there is a PATCH that the service may not have read yet.
        self.loose = False

    @initialize(length=LENGTHS, deferred=st.booleans())
    def create(self, length: int, deferred: bool) -> None:
        self.length = length
        self.promised = self.sent = 0
        self.url = self.world.run(self.world.tus.upload(None if deferred else length))

    async def offset(self) -> int:
        answer = await self.world.tus.head(self.url)
        assert answer.status_code == 200
        offset = int(answer.headers["upload-offset"])
        assert self.promised <= offset <= self.sent
        self.known = answer.headers.get("upload-length") == str(self.length)
        assert self.known or answer.headers["upload-defer-length"] == "1"
        self.promised = offset
        return offset

    def body(self, start: int, chunk: Chunk) -> bytes:
        stop = max(min(start + chunk.size, self.length), start)
        if chunk.check == "wrong":
            return WRONG[start:stop]
        self.sent = max(self.sent, stop)
        return CONTENT[start:stop]

    async def patch(
        self, start: int, body: bytes, fields: dict[str, str], chunked: bool = False
    ) -> tuple[int, int]:
        sent = in_pieces(body, 50_000) if chunked else body
        answer = await self.world.tus.patch(self.url, start, sent, fields)
        return answer.status_code, int(answer.headers.get("upload-offset", -1))

    @rule()
    def ask(self) -> None:
        self.world.run(self.offset())

    @rule(blind=st.booleans(), shift=st.sampled_from([0, 0, 0, -1, 1]), chunk=CHUNKS)
    def append(self, blind: bool, shift: int, chunk: Chunk) -> None:
        """Send a chunk at the offset of the upload or another one, and check the response."""

        async def work() -> None:
            at = self.promised if blind else await self.offset()
            start = max(at + shift, 0)
            body = self.body(start, chunk)
            fields = check_fields(chunk.check, start, len(body))
            fields["Upload-Length"] = str(self.length)
            status, told = await self.patch(start, body, fields, chunk.chunked)
            self.judge(start, len(body), chunk.check, self.promised, status, told)
            if not blind and not self.loose:
                taken = 460 if chunk.check == "wrong" and body else 204
                assert status == (taken if start == at else 409)

        self.world.run(work())

    def judge(
        self, start: int, size: int, check: str, promised: int, status: int, told: int
    ) -> None:
        """Check the response to a PATCH; `promised` is the model's offset when it began."""
        if status == 204:
            assert promised <= told == start + size <= self.sent
            assert check != "wrong" or not size
            self.promised = max(self.promised, told)
        elif status == 409:
            assert promised <= told <= self.sent
            assert told != start
        else:
            assert status == 423 or (status == 460 and check == "wrong")

    @rule(
        client=CLIENTS,
        blind=st.booleans(),
        chunk=CHUNKS,
        share=st.floats(0, 1),
        settled=st.booleans(),
    )
    def begin(self, client: int, blind: bool, chunk: Chunk, share: float, settled: bool) -> None:
        """Begin a chunk, and stall."""
        self.vanish(client, reset=False)

        async def work() -> None:
            start = self.promised if blind else await self.offset()
            body = self.body(start, chunk)
            stack = AsyncExitStack()
            peer = await stack.enter_async_context(self.world.service.raw_connection())
            own = chunk._replace(size=len(body))
            one = Sending(stack, peer, self.url, start, self.promised, own, body)
            self.sending[client] = one
            await one.begin()
            await one.send(int(len(body) * share))
            if settled:
                await settle(self.world.service)
            self.loose = not settled

        self.world.run(work())

    @precondition(lambda self: any(self.sending))
    @rule(client=CLIENTS, share=st.floats(0, 1))
    def go_on(self, client: int, share: float) -> None:
        one = self.sending[client]
        if one is not None:
            try:
                self.world.run(one.send(int(len(one.rest) * share)))
            except ConnectionError:
                self.vanish(client, reset=True)  # A newer request ended it.

    @precondition(lambda self: any(self.sending))
    @rule(client=CLIENTS)
    def end(self, client: int) -> None:
        """Send the rest of a chunk, and check the response."""
        one, self.sending[client] = self.sending[client], None
        if one is not None:
            status, told = self.world.run(one.end())
            self.world.run(one.stack.aclose())
            if status and one.url == self.url:
                self.judge(one.start, *one.chunk[:2], one.promised, status, told)

    @rule(client=CLIENTS, reset=st.booleans())
    def vanish(self, client: int, reset: bool) -> None:
        one, self.sending[client] = self.sending[client], None
        if one is not None:
            one.peer.reset() if reset else one.peer.close()
            self.world.run(one.stack.aclose())

    @rule(size=SIZES)
    def race(self, size: int) -> None:
        """Both send the same chunk at once: at most one of them is acknowledged."""

        async def work() -> None:
            start = await self.offset()
            body = self.body(start, Chunk(size, "none", chunked=False))
            fields = {"Upload-Length": str(self.length)}
            racers = (self.patch(start, body, fields) for _ in range(2))
            ends = await asyncio.gather(*racers, return_exceptions=True)
            answers = [end for end in ends if isinstance(end, tuple)]
            assert all(isinstance(end, tuple | httpx.TransportError) for end in ends)
            assert {status for status, _ in answers} <= {204, 409, 423}
            arrived = [told for status, told in answers if status == 204]
            assert set(arrived) <= {start + len(body)}
            assert len(arrived) < 2 or not body
            self.promised = max([self.promised, *arrived])

        self.world.run(work())

    @rule(excess=st.integers(1, 2 << 20), chunked=st.booleans())
    def overshoot(self, excess: int, chunked: bool) -> None:
        """Send more than the length: none of these bytes are kept."""

        async def work() -> None:
            start = await self.offset()
            if self.known:
                body = self.body(start, Chunk(self.length, "none", chunked)) + b"!" * excess
                status, _ = await self.patch(start, body, {}, chunked)
                assert status == 413 or (self.loose and status in (409, 423))
                assert await self.offset() == start or self.loose

        self.world.run(work())

    @rule(length=LENGTHS, deferred=st.booleans())
    def remove(self, length: int, deferred: bool) -> None:
        async def work() -> None:
            assert (await self.world.tus.delete(self.url)).status_code == 204
            assert (await self.world.tus.head(self.url)).status_code == 404
            assert await self.world.tus.record(self.url) is None

        self.world.run(work())
        self.create(length, deferred)

    def teardown(self) -> None:
        self.vanish(0, reset=True)
        self.vanish(1, reset=False)
        self.world.run(self.complete())
        assert [e for e in self.world.ended if e.outcome == "server_error"] == []
        self.world.ended.clear()

    async def complete(self) -> None:
        """Send the missing bytes: the file has the content, and nothing else remains."""
        world = self.world
        await settle(world.service)
        start = await self.offset()
        rest = self.body(start, Chunk(self.length, "none", chunked=False))
        fields = {"Upload-Length": str(self.length)}
        assert await self.patch(start, rest, fields) == (204, self.length)
        assert await self.offset() == self.length
        data = await bytes_of(world.service, id_of(self.url))
        assert sha256(data) == sha256(CONTENT[: self.length])
        file_url = (await world.tus.record(self.url))["url"]
        if not file_url.endswith("/record"):  # Otherwise the client would not send its bytes.
            sent = (await world.tus.http.get(file_url)).content
            assert sha256(sent) == sha256(data)
        assert (await world.tus.delete(self.url)).status_code == 204
        uploads = world.service.app.state.uploads
        while uploads._locks or buffered(world.service) or stores.left(world.data, "uploads"):
            await asyncio.sleep(0.001)


@pytest.mark.slow
def test_whatever_clients_do_to_an_upload_no_byte_is_lost_or_wrong(
    sections: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    sections["streaming"]["idle_timeout"] = 60
    how_often = settings(
        max_examples=25 * SOAK,
        stateful_step_count=20,
        deadline=None,
        derandomize=SOAK == 1,
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        # Failures often take a whole deadline, so shrinking them would take many.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        service = runner.run(stack.enter_async_context(Service(**sections)))
        tus = runner.run(stack.enter_async_context(Tus(service)))
        world = World(runner, service, tus, tmp_path / "data")
        service.app.state.kernel.observe = world.ended.append
        try:
            machine = type("Clients", (Clients,), {"world": world})
            run_state_machine_as_test(machine, settings=how_often)
        finally:
            runner.run(stack.aclose())
