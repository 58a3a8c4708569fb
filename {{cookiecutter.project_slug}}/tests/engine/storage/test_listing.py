"""The listing is paged, so that the cost of a request does not grow with the number of files."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from {{cookiecutter.package_name}}.engine.storage.records import FileRecord, new_id

from ..service import Service
from .stored import insert, store

#: More files than one page has by default.
MANY = 12_000
#: The maximum length of the fields of a form.
LONG = {"note": "x" * (64 << 10)}


async def fill(service: Service, count: int, **more: Any) -> list[str]:
    """Add records without files to the catalogue; return their ids."""
    ids = [new_id() for _ in range(count)]
    known: dict[str, Any] = {"filename": "f", "size": 1, "created_at": datetime.now(UTC), **more}
    records = [FileRecord(id=each, **known) for each in ids]
    await insert(service, records)
    return ids


@pytest.fixture
def pages_read(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[list[FileRecord]]:
    """The pages of records that were read from the catalogue."""
    read: list[list[FileRecord]] = []
    catalogue = service.app.state.storage.catalogue
    original = catalogue.page

    async def page(after: int, limit: int, owner: str | None = None) -> Any:
        found = await original(after, limit, owner)
        read.append([record for _, record in found])
        return found

    monkeypatch.setattr(catalogue, "page", page)
    return read


async def page(service: Service, **query: int) -> tuple[list[str], dict[str, int]]:
    """Return the ids of one page, and its `$end`."""
    async with service.client() as client:
        response = await client.get("/files", params=query)
    assert response.status_code == 200, response.text
    *records, last = map(json.loads, response.text.splitlines())
    assert last["$end"]["count"] == len(records)
    return [record["id"] for record in records], last["$end"]


async def pages(service: Service, **query: int) -> AsyncIterator[list[str]]:
    """Yield the ids of each page, following `next`."""
    while True:
        ids, end = await page(service, **query)
        yield ids
        if "next" not in end:
            return
        query["after"] = end["next"]


@pytest.mark.bound("14.1")
@pytest.mark.parametrize("query", [{}, {"limit": MANY}, {"limit": 2**31 - 1}, {"after": 1}])
async def test_a_listing_of_many_files_is_a_page_of_them(
    service: Service, query: dict[str, int]
) -> None:
    await fill(service, MANY)

    ids, _ = await page(service, **query)

    assert 0 < len(ids) <= MANY / 2


@pytest.mark.bound("14.1")
async def test_all_pages_together_have_each_file_once(service: Service) -> None:
    ids = await fill(service, MANY)

    seen = [each async for each in pages(service)]

    assert len(seen) > 1
    assert [each for one in seen for each in one] == ids


@pytest.mark.parametrize(
    ("query", "most"),
    [
        pytest.param({}, MANY / 2, marks=pytest.mark.bound("14.1")),
        pytest.param({"limit": MANY}, MANY / 2, marks=pytest.mark.bound("14.1")),
        ({"limit": 1}, 2),
        ({"after": MANY - 1}, 1),
        ({"after": MANY}, 0),
        ({"after": 2**63 - 1}, 0),
    ],
)
async def test_a_request_reads_the_records_of_its_page(
    service: Service, pages_read: list[list[FileRecord]], query: dict[str, int], most: int
) -> None:
    await fill(service, MANY)

    await page(service, **query)

    assert sum(map(len, pages_read)) <= most


@pytest.mark.bound("14.1")
async def test_a_listing_that_was_cut_is_counted(service: Service) -> None:
    await fill(service, MANY)
    before = await service.reached("storage.max_listed")

    await page(service)
    await page(service, limit=MANY)
    await page(service, limit=10)
    await page(service, after=MANY - 10)

    assert await service.reached("storage.max_listed") == before + 2


@pytest.mark.bound("14.1")
async def test_a_page_that_leaves_files_says_where_they_begin(service: Service) -> None:
    ids = await fill(service, 5)

    first, end = await page(service, limit=2)
    rest, _ = await page(service, after=end.get("next", 0))

    assert (first, rest) == (ids[:2], ids[2:])


@pytest.mark.parametrize("limit", [2, 4, 5, 2**31 - 1])
async def test_the_last_page_says_that_it_is(service: Service, limit: int) -> None:
    ids = await fill(service, 4)

    _, end = await page(service)
    last, limited = await page(service, after=2, limit=limit)
    _, empty = await page(service, after=4)

    assert end == {"count": 4}
    assert last == ids[2:]
    assert limited == {"count": 2}
    assert empty == {"count": 0}


async def test_pages_have_each_file_once_while_others_come_and_go(serve: Any) -> None:
    service: Service = await serve(storage={"max_listed": 2})
    ids = [await store(service, b"x") for _ in range(6)]
    # The last record of the page, and the first one of the next.
    changes = iter([ids[1:3], ids[4:5]])
    seen, added = [], []

    async for one in pages(service):
        seen.append(one)
        for each in next(changes, []):
            async with service.client() as client:
                assert (await client.delete(f"/files/{each}")).status_code == 204
            added.append(await store(service, b"y"))

    kept = [ids[0], ids[1], ids[3], ids[4], ids[5], *added]
    assert [each for one in seen for each in one] == kept
    assert [len(one) for one in seen] == [2, 2, 2, 2]


@pytest.mark.parametrize("query", [{}, {"limit": 4}, {"limit": 2**31 - 1}])
async def test_a_larger_limit_is_that_of_the_settings(serve: Any, query: dict[str, int]) -> None:
    service: Service = await serve(storage={"max_listed": 3})
    ids = await fill(service, 4)
    before = await service.reached("storage.max_listed")

    first, end = await page(service, **query)
    rest, last = await page(service, after=end["next"], **query)

    assert (first, rest, last) == (ids[:3], ids[3:], {"count": 1})
    assert await service.reached("storage.max_listed") == before + 1


@pytest.mark.bound("14.2")
async def test_a_page_of_long_records_has_fewer_of_them(service: Service) -> None:
    ids = await fill(service, 200, metadata=LONG)
    before = await service.reached("storage.max_listed_bytes")

    seen = [each async for each in pages(service)]

    assert max(map(len, seen)) <= 50
    assert [each for one in seen for each in one] == ids
    assert await service.reached("storage.max_listed_bytes") == before + len(seen) - 1


@pytest.mark.bound("14.2")
async def test_few_long_records_are_held_at_once(
    service: Service, pages_read: list[list[FileRecord]]
) -> None:
    await fill(service, 200, metadata=LONG)

    await page(service)

    assert max(map(len, pages_read)) <= 10


async def test_a_page_has_a_record_however_long_it_is(serve: Any) -> None:
    service: Service = await serve(storage={"max_listed_bytes": 1})
    ids = await fill(service, 3, metadata=LONG)

    assert [each async for each in pages(service)] == [[each] for each in ids]


@pytest.mark.fault("G25")
async def test_caches_keep_no_listing_and_revalidate_a_record(service: Service) -> None:
    file_id = await store(service, b"x")
    async with service.client() as client:
        listing = await client.get("/files")
        record = await client.get(f"/files/{file_id}/record")

    assert listing.headers["cache-control"] == "no-store"
    assert record.headers["cache-control"] == "private, no-cache"
