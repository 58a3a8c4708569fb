"""Several processes share the uploads: the newest request takes precedence in each of them.

Each service represents a worker. A client whose connection dies silently reconnects to any of them,
while the first one still waits for the rest of the body.
"""

import asyncio
import random
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from {{cookiecutter.package_name}}.engine.storage.claims import Claim

from ..peer import PATIENCE, Peer
from ..service import SOAK, Service, ServiceProcess
from ..storage.stored import bytes_of
from ..upload.uploads import sha256
from .draft import append, bare_append, begin, offset_of, send_part
from .tus import Tus, begin_patch, id_of, patch_head, settle, unfinished, was_cut

PATCH = "PATCH /uploads/{upload_id}"
#: So long that no body times out.
PATIENT = {"idle_timeout": 60}
PROCESS = {"STREAMING__IDLE_TIMEOUT": "60 s", "STORAGE__URL": "file:./data"}


@pytest.fixture
async def workers(serve: Any) -> list[Service]:
    """Three services that share a store."""
    return [await serve(streaming=PATIENT) for _ in range(3)]


@pytest.mark.fault("F9")
@pytest.mark.spec("tus-C14", "tus-C27")
async def test_a_stalled_chunk_gives_way_to_a_client_that_asks_another_worker(
    workers: list[Service],
) -> None:
    holder, other, _ = workers
    async with Tus(holder) as tus, Tus(other) as again, holder.raw_connection() as peer:
        path = "/uploads/" + id_of(await tus.upload(6))
        await begin_patch(peer, path, 0, "Content-Length: 6")
        await peer.send(b"abc")
        await settle(holder)

        assert await again.offset(path) == 3
        assert await was_cut(peer)
        assert await holder.outcome_of(PATCH) == "rejected"
        assert (await again.patch(path, 3, b"def")).status_code == 204
    assert await bytes_of(holder, id_of(path)) == b"abcdef"


@pytest.mark.fault("F9")
@pytest.mark.spec("draft-X2", "draft-X3")
@pytest.mark.parametrize("method", ["HEAD", "GET", "PATCH"])
async def test_a_stalled_append_gives_way_to_any_newer_request(
    workers: list[Service], method: str
) -> None:
    holder, other, _ = workers
    async with other.client() as client, holder.raw_connection() as peer:
        path = "/uploads/" + id_of(await begin(client))
        head = bare_append(holder.url + path, 0, 6, "Upload-Complete: ?1")
        await send_part(peer, head, b"abc")
        await settle(holder)

        if method != "PATCH":
            asked = await client.request(method, path)
            assert (asked.status_code, asked.headers.get("upload-offset")) == (204, "3")
        last = await append(client, path, 3, b"def", complete=True)
        assert await was_cut(peer)
        assert last.status_code == 201
    assert await bytes_of(other, last.json()["id"]) == b"abcdef"


@pytest.mark.fault("F9")
@pytest.mark.spec("tus-R2", "tus-R3", "draft-D2")
@pytest.mark.parametrize("headers", [{}, {"Tus-Resumable": "1.0.0"}])
async def test_an_upload_is_removed_while_another_worker_receives_it(
    workers: list[Service], tmp_path: Path, headers: dict[str, str]
) -> None:
    holder, other, _ = workers
    async with Tus(holder) as tus, other.client() as client, holder.raw_connection() as peer:
        path = "/uploads/" + id_of(await tus.upload(6))
        await begin_patch(peer, path, 0, "Content-Length: 6")
        await peer.send(b"abc")
        await settle(holder)

        assert (await client.delete(path, headers=headers)).status_code == 204
        assert await was_cut(peer)
        assert (await tus.head(path)).status_code == 404
    assert unfinished(tmp_path) == []


async def send_on(peer: Peer, data: bytes) -> None:
    """Send until the connection breaks, slowly enough that the body does not end first."""
    with suppress(ConnectionError):
        for start in range(0, len(data), 1 << 16):
            await peer.send(data[start : start + (1 << 16)])
            await asyncio.sleep(0.002)


@pytest.mark.fault("F9")
@pytest.mark.spec("tus-C14", "tus-C24")
@pytest.mark.parametrize("round_", range(2 * SOAK))
@pytest.mark.slow
async def test_a_chunk_at_full_speed_gives_way_and_no_byte_is_mixed(
    workers: list[Service], round_: int
) -> None:
    data = random.Random(round_).randbytes(40 << 20)
    offset = 0
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Tus(worker)) for worker in workers]
        path = "/uploads/" + id_of(await clients[0].upload(len(data)))
        for number in range(1, 4):
            holder, again = workers[number % 3], clients[(number + 1) % 3]
            peer = await stack.enter_async_context(holder.raw_connection())
            await begin_patch(peer, path, offset, f"Content-Length: {len(data) - offset}")
            sending = asyncio.create_task(send_on(peer, data[offset:]))
            reached = await again.offset(path)
            assert offset < reached < len(data)
            await sending
            offset = reached
        rest = await again.patch(path, offset, data[offset:])
        assert rest.status_code == 204
    assert sha256(await bytes_of(holder, id_of(path))) == sha256(data)


@pytest.mark.spec("draft-X1", "draft-X2")
async def test_clients_that_fight_through_all_workers_never_mix_their_bytes(
    workers: list[Service],
) -> None:
    data = random.randbytes(1 << 20)

    async def fight(client: httpx.AsyncClient, path: str) -> None:
        for _ in range(2 * SOAK):
            offset = await offset_of(client, path)
            with suppress(httpx.TransportError):  # Ended by a newer request.
                answer = await append(client, path, offset, data[offset : offset + 40_000])
                assert answer.status_code in (204, 409)

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(worker.client()) for worker in workers]
        path = "/uploads/" + id_of(await begin(clients[0]))
        await asyncio.gather(*(fight(client, path) for client in clients))
        offset = await offset_of(clients[0], path)
        last = await append(clients[0], path, offset, data[offset:], complete=True)
    assert sha256(await bytes_of(workers[0], last.json()["id"])) == sha256(data)


@pytest.mark.spec("tus-N7")
async def test_a_whole_waits_for_a_part_that_another_worker_receives(
    workers: list[Service],
) -> None:
    holder, other, _ = workers
    async with Tus(holder) as tus, Tus(other) as again, holder.raw_connection() as peer:
        part = "/uploads/" + id_of(await tus.upload(6, {"Upload-Concat": "partial"}))
        await begin_patch(peer, part, 0, "Content-Length: 6")
        await peer.send(b"abc")
        await settle(holder)
        created = await again.create({"Upload-Concat": f"final;{part}"})
        assert created.status_code == 201
        await peer.send(b"def")
        assert b" 204 " in await peer.read_head()

        whole = "/uploads/" + id_of(created.headers["location"])
        assert await again.offset(whole) == 6
    assert await bytes_of(other, id_of(whole)) == b"abcdef"


async def test_the_sweep_of_another_worker_takes_nothing_away(workers: list[Service]) -> None:
    holder, other, _ = workers
    async with Tus(holder) as tus, holder.raw_connection() as peer:
        path = "/uploads/" + id_of(await tus.upload(6))
        await begin_patch(peer, path, 0, "Content-Length: 6")
        await peer.send(b"abc")
        await settle(holder)
        await other.in_server(other.app.state.uploads.sweep())
        await other.in_server(other.app.state.storage.sweep())

        await peer.send(b"def")
        assert b" 204 " in await peer.read_head()
    assert await bytes_of(holder, id_of(path)) == b"abcdef"


@pytest.mark.parametrize("dies", ["holder", "contender"])
@pytest.mark.slow
async def test_a_worker_that_is_killed_leaves_nothing_locked_or_asked_for(
    tmp_path: Path, dies: str
) -> None:
    """The newer process may crash before it asks, while it waits, or with the upload."""
    for _ in range(2 * SOAK):
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            processes = [await enter(ServiceProcess(tmp_path, **PROCESS)) for _ in range(3)]
            holder, contender, third = processes
            tus, last = await enter(Tus(holder)), await enter(Tus(third))
            path = "/uploads/" + id_of(await tus.upload(9))
            peer, asking = [await enter(each.raw_connection()) for each in (holder, contender)]
            await begin_patch(peer, path, 0, "Content-Length: 9")
            await peer.send(b"abc")
            await settle(holder)
            await asking.send(patch_head(path, 3, "Content-Length: 6") + b"def")
            await asyncio.sleep(random.uniform(0, 0.2))  # Kill at any moment.
            (holder if dies == "holder" else contender).kill()

            offset = await last.offset(path)
            assert offset in (0, 3, 6)  # The bytes in the memory of the holder are lost.
            # The newer process may have waited since before HEAD, and continue only now.
            async with asyncio.timeout(PATIENCE):
                while (await last.patch(path, offset, b"abcdefghi"[offset:])).status_code != 204:
                    offset = await last.offset(path)
                while (tmp_path / "data" / "uploads" / f"{id_of(path)}.lock").exists():
                    await last.head(path)  # The next request removes the stale lock.
            assert (await last.record(path))["size"] == 9


@pytest.mark.local
def test_a_claim_is_wanted_by_newer_requests_only(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    claim = Claim.take_or_ask(lock, 2_000_000)
    assert claim is not None
    assert Claim.take_or_ask(lock, 1_000_000) is None
    assert not claim.is_wanted()
    assert Claim.take_or_ask(lock, 3_000_000) is None
    assert claim.is_wanted()

    claim.release()
    newer = Claim.take_or_ask(lock, 3_000_000)
    assert newer is not None
    assert not newer.is_wanted()
    newer.release()
    assert list(tmp_path.iterdir()) == []
