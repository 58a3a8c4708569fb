"""Unfinished uploads in a bucket: parts, pieces, and what does not count."""

import pytest

from {{cookiecutter.package_name}}.engine.kernel.problem import Problem
from {{cookiecutter.package_name}}.engine.storage.s3 import (
    pool as pools,
    writer as writers,
)
from {{cookiecutter.package_name}}.engine.storage.s3.body import SMALL
from {{cookiecutter.package_name}}.engine.storage.s3.writing_partials import MOST_PIECES
from {{cookiecutter.package_name}}.engine.storage.writer import HEAD

from .faults import FaultProxy
from .partials import DATA, PART, Opened, Uploads, opened, uploads
from .servers import bucket_url, endpoint_url

__all__ = ["bucket_url", "endpoint_url", "opened", "uploads"]


@pytest.mark.parametrize(
    "sizes",
    [[0], [1, 2, 3], [PART], [PART - 1, 1, 1], [3 * PART + 5], [1 << 20] * 12, [PART // 2 + 1] * 5],
    ids=str,
)
async def test_the_offset_is_the_sum_of_all_requests(uploads: Uploads, sizes: list[int]) -> None:
    partial, end = await uploads.new(), 0
    for size in sizes:
        assert await uploads.append(partial, DATA[end : end + size]) == end + size
        end += size
        assert await uploads.size(partial) == end
        assert sum(map(bool, uploads.multiparts())) == (end >= PART)
        assert len(uploads.keys(f"pieces/{partial.id}/")) < 12

    record = await uploads.commit(partial)

    assert record.size == end
    assert await uploads.content(partial) == DATA[:end]
    assert uploads.multiparts() == []
    assert uploads.keys("pieces/") == []


async def test_an_upload_that_becomes_a_file_at_once_has_no_pieces(uploads: Uploads) -> None:
    for size in (5, PART + 5):
        partial = await uploads.new(size, completes=True)
        claimed = uploads.partials.claimed(partial.id)
        async with claimed, uploads.partials.open(partial, 0) as writer:
            await writer.write(DATA[:size])
            await writer.flush()
            assert writer.written == size
            assert uploads.keys("pieces/") == []
            await uploads.storage.commit(writer)
        assert await uploads.content(partial) == DATA[:size]


async def test_questions_are_not_added_to_the_log(uploads: Uploads) -> None:
    catalogue = uploads.storage.catalogue
    before = catalogue.database.position
    assert not catalogue.lacks_owners()
    await uploads.new()
    assert catalogue.database.position == before + 1


async def test_a_small_upload_takes_the_memory_that_it_needs(uploads: Uploads) -> None:
    partial = await uploads.new(1000)
    for size in (0, 10):
        claimed = uploads.partials.claimed(partial.id)
        async with claimed, uploads.partials.open(partial, size) as writer:
            await writer.write(DATA[size : size + 10])
            assert uploads.storage.pool.buffered <= 1000
    assert uploads.storage.pool.buffered == 0


async def test_the_end_does_not_count_while_it_is_in_memory(uploads: Uploads) -> None:
    partial = await uploads.new(PART + 5, completes=True)
    claimed = uploads.partials.claimed(partial.id)
    async with claimed, uploads.partials.open(partial, 0) as writer:
        await writer.write(DATA[: PART + 5])
        assert writer.written in (0, PART)  # 104 responses send this to the client.
        await writer.flush()
        assert writer.written == PART + 5


async def test_the_end_is_kept_if_the_file_cannot_be_made(uploads: Uploads) -> None:
    partial = await uploads.new(PART + 5, completes=True)
    async with uploads.partials.claimed(partial.id):
        async with uploads.partials.open(partial, 0) as writer:
            await writer.write(DATA[: PART + 5])
            await writer.flush()
        assert await uploads.size(partial) == PART + 5
    await uploads.commit(partial)
    assert await uploads.content(partial) == DATA[: PART + 5]


@pytest.mark.parametrize("first", [0, 3, PART, PART + 3, 2 * PART - 1])
@pytest.mark.parametrize("second", [1, PART - 1, PART, 2 * PART])
async def test_a_request_is_undone(uploads: Uploads, first: int, second: int) -> None:
    partial = await uploads.new()
    await uploads.append(partial, DATA[:first])
    async with uploads.partials.claimed(partial.id):
        assert await uploads.size(partial) == first
        async with uploads.partials.open(partial, first) as writer:
            await writer.write(bytes(second))
            await writer.flush()
        assert await uploads.size(partial) == first + second
        await uploads.partials.truncate(partial.id, first)
        assert await uploads.size(partial) == first
    assert await uploads.append(partial, DATA[first : first + 3]) == first + 3
    end = await uploads.append(partial, DATA[first + 3 : first + PART])

    await uploads.commit(partial)

    assert await uploads.content(partial) == DATA[:end]


async def test_a_request_that_crashed_is_undone_by_the_next(uploads: Uploads) -> None:
    partial = await uploads.new()
    await uploads.append(partial, DATA[:3])
    await uploads.append(partial, bytes(PART))
    async with uploads.partials.claimed(partial.id):
        await uploads.partials.truncate(partial.id, 3)
        async with uploads.partials.open(partial, 3) as writer:
            await writer.write(DATA[3:10])
            await writer.flush()
        assert await uploads.size(partial) == 10
    assert await uploads.append(partial, DATA[10 : PART + 10]) == PART + 10
    await uploads.commit(partial)
    assert await uploads.content(partial) == DATA[: PART + 10]


async def test_requests_that_arrive_late_change_nothing(uploads: Uploads) -> None:
    partial = await uploads.new()
    await uploads.append(partial, DATA[: PART + 3])
    async with uploads.partials.claimed(partial.id) as hold:
        fence = hold.fence
        async with uploads.partials.open(partial, PART + 3) as writer:
            await writer.write(bytes(PART))
            await writer.flush()
        await uploads.partials.truncate(partial.id, PART + 3)
    # The part and the piece of the request that was undone, and parts that were on their way.
    for number in (2, 3, 4):
        uploads.send_part(number, bytes(PART))
    uploads.send_piece(partial, PART + 3, fence, b"late")
    assert await uploads.size(partial) == PART + 3
    end = await uploads.append(partial, DATA[PART + 3 : 2 * PART + 10])
    for number in (2, 3, 4):
        uploads.send_part(number, bytes(PART))
    uploads.send_piece(partial, end, fence, b"late")
    assert await uploads.size(partial) == end
    await uploads.commit(partial)
    assert await uploads.content(partial) == DATA[:end]


@pytest.mark.parametrize("late", [False, True])
async def test_a_part_counts_only_after_those_before_it(uploads: Uploads, late: bool) -> None:
    partial = await uploads.new()
    await uploads.append(partial, DATA[: PART + 3])
    uploads.send_part(3, bytes(PART))
    assert await uploads.size(partial) == PART + 3
    end = await uploads.append(partial, DATA[PART + 3 : PART + 10])
    if late:
        uploads.send_part(2, bytes(PART))
    assert await uploads.size(partial) == end
    end = await uploads.append(partial, DATA[end : 3 * PART + 4])
    await uploads.commit(partial)
    assert await uploads.content(partial) == DATA[:end]


async def test_parts_are_as_small_as_a_known_length_allows(
    opened: Opened, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "EQUAL_PARTS", 2)
    uploads = await opened(proxy.url)
    unknown, known = await uploads.new(), await uploads.new(12 << 20, completes=True)
    for partial in (unknown, known):
        assert await uploads.append(partial, DATA[: 11 << 20]) == 11 << 20
        parts = proxy.count(f"PUT .*/{partial.id}.*partNumber")
        assert parts == (2 if partial is unknown else 1)
    # The length becomes known later: the sizes remain.
    await uploads.partials.save(unknown.model_copy(update={"length": 12 << 20}))
    for partial in (unknown, known):
        assert await uploads.size(partial) == 11 << 20
        await uploads.append(partial, DATA[11 << 20 : 12 << 20])
        await uploads.commit(partial)
        assert await uploads.content(partial) == DATA[: 12 << 20]


@pytest.mark.parametrize("size", [0, 3])
async def test_the_end_is_kept_if_the_last_request_fails(
    opened: Opened, proxy: FaultProxy, size: int
) -> None:
    uploads = await opened(proxy.url)
    partial = await uploads.new(PART + 5, completes=True)
    await uploads.append(partial, DATA[:size])
    fault = proxy.add("POST .*uploadId", status=403)
    async with uploads.partials.claimed(partial.id):
        async with uploads.partials.open(partial, size) as writer:
            await writer.write(DATA[size : PART + 5])
            with pytest.raises(Problem):
                await uploads.storage.commit(writer)
            assert writer.written == PART + 5
        fault.remove()
    assert await uploads.size(partial) == PART + 5
    assert len(uploads.keys("pieces/")) == bool(size)
    await uploads.commit(partial)
    assert await uploads.content(partial) == DATA[: PART + 5]


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_holder_whose_pieces_were_removed_has_lost_the_upload(
    opened: Opened, proxy: FaultProxy, has_begun: bool
) -> None:
    uploads = await opened(proxy.url)
    partial = await uploads.new()
    await uploads.append(partial, DATA[:3])
    claimed = uploads.partials.claimed(partial.id)
    async with claimed, uploads.partials.open(partial, 3) as writer:
        if has_begun:  # The first byte has arrived when it is removed.
            proxy.add("GET .*/pieces/", times=1, cut_response=1)
        proxy.add("GET .*/pieces/", status=404)
        with pytest.raises(Problem) as lost:
            await writer.write(DATA[3 : PART + 3])

    assert lost.value.status_code == 503


async def test_without_memory_requests_continue_in_files(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "WAIT_SECONDS", 0.001)
    partial, pool, end = await uploads.new(), uploads.storage.pool, 0
    for size in (2 * SMALL, 1, PART // 2, PART, 2 * SMALL + 1):
        await pool.take(256 << 20)
        end = await uploads.append(partial, DATA[end : end + size], step=SMALL + 1)
        pool.give(256 << 20)
        assert pool.buffered == 0
    # A piece has the bytes after the last one, also if these are in a file.
    claimed = uploads.partials.claimed(partial.id)
    async with claimed, uploads.partials.open(partial, end) as writer:
        await pool.take(256 << 20)
        for size in (10, SMALL, 10):
            await writer.write(DATA[end : end + size])
            await writer.keep()
            end += size
            assert writer.written == end
        await writer.write(DATA[end : end + SMALL])
        pool.give(256 << 20)
    end += SMALL
    await uploads.commit(partial)
    assert await uploads.content(partial) == DATA[:end]


async def test_many_small_requests_are_joined(opened: Opened, proxy: FaultProxy) -> None:
    uploads = await opened(proxy.url)
    partial, most, step = await uploads.new(), 0, HEAD
    for start in range(0, (MOST_PIECES + 5) * step, step):
        if most == MOST_PIECES + 1:
            proxy.add("PUT .*/pieces/", times=1, status=403)
            with pytest.raises(Problem):
                await uploads.append(partial, DATA[start : start + step])
            assert uploads.storage.pool.buffered == 0
        await uploads.append(partial, DATA[start : start + step])
        most = max(most, len(uploads.keys("pieces/")))
    assert most == MOST_PIECES + 3
    assert len(uploads.keys("pieces/")) == 5
    await uploads.commit(partial)
    assert await uploads.content(partial) == DATA[: (MOST_PIECES + 5) * step]


@pytest.mark.parametrize("size", [0, 7, PART, 2 * PART + 7])
async def test_a_sealed_upload_becomes_a_file_later(uploads: Uploads, size: int) -> None:
    partial = await uploads.new()
    await uploads.append(partial, DATA[:size])
    async with uploads.partials.claimed(partial.id):
        assert await uploads.size(partial) == size
        read = [chunk async for chunk in uploads.partials.read(partial.id, size)]
        assert b"".join(read) == DATA[:size]
        with pytest.raises(Problem):
            await uploads.storage.record(partial.id)
    assert await uploads.size(partial) == size
    if size >= PART:
        claimed = uploads.partials.claimed(partial.id)
        async with claimed, uploads.partials.open(partial, size) as writer:
            with pytest.raises(Problem):
                await writer.write(b"x")
    await uploads.commit(partial)
    assert await uploads.content(partial) == DATA[:size]


async def test_an_object_counts_more_than_the_pieces_that_a_crash_left(uploads: Uploads) -> None:
    partial = await uploads.new(7, completes=True)
    await uploads.append(partial, DATA[:3])
    async with uploads.partials.claimed(partial.id):
        assert await uploads.size(partial) == 3
        async with uploads.partials.open(partial, 3) as writer:
            await writer.write(DATA[3:7])
            await writer.flush()
            await writer.seal()
            assert len(uploads.keys("pieces/")) == 1
            assert await uploads.size(partial) == 7
    await uploads.commit(partial)
    assert await uploads.content(partial) == DATA[:7]


@pytest.mark.parametrize("sizes", [[PART, PART + 1, 3], [3, PART, 0, 5], [1, 0], [0], [PART, 0]])
async def test_parts_are_concatenated(uploads: Uploads, sizes: list[int]) -> None:
    parts, end = [], 0
    for size in sizes:
        part = await uploads.new(size, is_part=True)
        await uploads.append(part, DATA[end : end + size])
        parts.append(part.id)
        end += size
    for _ in range(2):
        whole = await uploads.new(end, parts=tuple(parts), completes=True)
        async with uploads.partials.claimed(whole.id):
            await uploads.partials.concatenate(whole.id, whole.parts, end)
            assert await uploads.size(whole) == end
        await uploads.commit(whole)
        assert await uploads.content(whole) == DATA[:end]
    for part_id in parts:
        await uploads.partials.remove(part_id)
    assert len(uploads.keys("files/")) == 2
    assert [*uploads.keys("pieces/"), *uploads.multiparts()] == []


@pytest.mark.parametrize("is_sealed", [False, True])
@pytest.mark.parametrize("size", [0, 3, PART + 3])
async def test_nothing_is_left_of_a_removed_upload(
    uploads: Uploads, size: int, is_sealed: bool
) -> None:
    partial = await uploads.new()
    await uploads.append(partial, DATA[:size])
    async with uploads.partials.claimed(partial.id):
        if is_sealed:
            assert [chunk async for chunk in uploads.partials.read(partial.id, size)] or not size
        await uploads.partials.remove(partial.id)
    await uploads.partials.forget(0)
    assert [*uploads.keys("files/"), *uploads.keys("pieces/"), *uploads.multiparts()] == []
    assert await uploads.partials.received([partial.id]) == {}
    assert await uploads.storage.catalogue.read("SELECT 1 FROM layouts") == []


async def test_the_file_of_an_upload_stays_when_the_upload_is_removed(uploads: Uploads) -> None:
    partial = await uploads.new()
    await uploads.append(partial, DATA[: PART + 3])
    await uploads.commit(partial)
    await uploads.partials.remove(partial.id)
    assert await uploads.content(partial) == DATA[: PART + 3]
