"""RFC 9110, section 13: preconditions."""

from importlib import import_module

import pytest

from .served import SIZE, Clock, Served

#: The module `router`, because in the package this name is the object.
ROUTER = import_module("{{cookiecutter.package_name}}.engine.download.router")

UNKNOWN = "/files/01a203f1-0be9-76ef-96de-a7f65289fcd1"
YEAR = 366 * 86400


@pytest.mark.spec("rfc9110-13.1.1a", "rfc9110-13.1.1b", "rfc9110-13.1.1c", "rfc9110-15.5.13")
@pytest.mark.spec("rfc9110-5.3", "rfc9110-5.6.1.2")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["If-Match: TAG"], 200),
        (["If-Match: *"], 200),
        (['If-Match: "a,b",,TAG ,'], 200),
        (['If-Match: "a"', "If-Match: TAG"], 200),
        (["If-Match: W/TAG"], 412),
        (['If-Match: "other"'], 412),
    ],
)
async def test_if_match_compares_strongly(
    file: Served, method: str, lines: list[str], status: int
) -> None:
    assert (await file.ask(method, lines)).status == status


@pytest.mark.spec("rfc9110-13.1.2a", "rfc9110-13.1.2b", "rfc9110-13.1.2c", "rfc9110-15.4.5a")
@pytest.mark.spec("rfc9110-15.4.5b", "rfc9110-15.4.5c", "rfc9110-5.3", "rfc9110-5.6.1.2")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "lines",
    [
        ["If-None-Match: TAG"],
        ["If-None-Match: W/TAG"],
        ["If-None-Match: *"],
        ['If-None-Match: "a,b" ,, W/"c", TAG'],
        ['If-None-Match: "a"', "If-None-Match: TAG"],
        ["If-None-Match: TAG", "Range: bytes=0-1", "Want-Repr-Digest: sha-256=9"],
    ],
)
async def test_if_none_match_compares_weakly_and_answers_304(
    file: Served, method: str, lines: list[str]
) -> None:
    got, answer = await file.get(), await file.ask(method, lines)

    assert (answer.status, answer.body) == (304, b"")
    assert answer.names == {"etag", "cache-control"}
    assert answer.fields("etag", "cache-control") == got.fields("etag", "cache-control")
    assert "date" in answer.headers


@pytest.mark.spec("rfc9110-13.1.2a", "rfc9110-13.1.3a")
async def test_other_tags_are_no_reason_for_304_and_the_date_does_not_count(file: Served) -> None:
    date = file.dates(0)["IMF-fixdate"]
    assert (await file.get('If-None-Match: "a"')).status == 200
    assert (await file.get('If-None-Match: "a"', f"If-Modified-Since: {date}")).status == 200


@pytest.mark.spec("rfc9110-5.6.7a", "rfc9110-13.1.3d", "rfc9110-13.1.4c", "rfc9110-15.4.5a")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("form", ["IMF-fixdate", "RFC 850", "asctime"])
async def test_a_date_counts_in_all_three_formats(file: Served, method: str, form: str) -> None:
    async def status(name: str, seconds: int) -> int:
        return (await file.ask(method, [f"{name}: {file.dates(seconds)[form]}"])).status

    assert await status("If-Modified-Since", -1) == 200
    assert await status("If-Modified-Since", 0) == 304
    assert await status("If-Unmodified-Since", -1) == 412
    assert await status("If-Unmodified-Since", 0) == 200


@pytest.mark.spec("rfc9110-5.6.7c")
async def test_a_year_of_two_digits_is_at_most_50_years_ahead(file: Served) -> None:
    near, far = file.dates(40 * YEAR)["RFC 850"], file.dates(60 * YEAR)["RFC 850"]
    assert (await file.get(f"If-Modified-Since: {near}")).status == 304
    assert (await file.get(f"If-Modified-Since: {far}")).status == 200


@pytest.mark.spec("rfc9110-13.1.3b", "rfc9110-13.1.4b")
@pytest.mark.parametrize("name", ["If-Modified-Since", "If-Unmodified-Since"])
async def test_what_is_no_date_does_not_count(file: Served, name: str) -> None:
    past, future = file.dates(-1)["IMF-fixdate"], file.dates(YEAR)["IMF-fixdate"]
    for date in (past, future):
        wrong = [date.replace("GMT", "+0000"), date.lower(), date.partition(", ")[2], "0", ""]
        for value in wrong:
            assert (await file.get(f"{name}: {value}")).status == 200, value
        assert (await file.get(f"{name}: {date}", f"{name}: {date}")).status == 200


@pytest.mark.spec("rfc9110-13.1.4a", "rfc9110-13.2.2")
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["If-Match: TAG", "If-Unmodified-Since: PAST"], 200),
        (['If-Match: "a"', "If-Unmodified-Since: FUTURE"], 412),
        (['If-Match: "a"', "If-None-Match: TAG"], 412),
        (["If-Unmodified-Since: PAST", "If-None-Match: TAG"], 412),
        (["If-Match: TAG", "If-None-Match: TAG"], 304),
        (["If-None-Match: TAG", "If-Modified-Since: PAST"], 304),
        (["If-None-Match: TAG", "Range: bytes=0-1", "If-Range: TAG"], 304),
        (["If-None-Match: TAG", "Range: bytes=999999-"], 304),
        (['If-Match: "a"', "Range: bytes=999999-"], 412),
        (["If-Match: TAG", "Range: bytes=0-1", "If-Range: TAG"], 206),
        (["If-Match: TAG", "Range: bytes=0-1", 'If-Range: "a"'], 200),
    ],
)
async def test_preconditions_are_evaluated_in_order(
    file: Served, lines: list[str], status: int
) -> None:
    dates = {"PAST": file.dates(-1)["IMF-fixdate"], "FUTURE": file.dates(YEAR)["IMF-fixdate"]}
    for word, date in dates.items():
        lines = [line.replace(word, date) for line in lines]
    assert (await file.get(*lines)).status == status


@pytest.mark.spec("rfc9110-13.2.1")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "line", ["If-None-Match: *", "If-Match: *", 'If-Match: "a"', "Range: bytes=0-1"]
)
async def test_what_is_not_there_is_404_whatever_the_preconditions(
    file: Served, method: str, line: str
) -> None:
    assert (await file.ask(method, [line], UNKNOWN)).status == 404


@pytest.mark.spec("rfc9110-13.1.5a", "rfc9110-13.1.5b")
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Range: bytes=0-1", "If-Range: TAG"], 206),
        (["Range: bytes=0-1", "If-Range: W/TAG"], 200),
        (["Range: bytes=0-1", 'If-Range: "other"'], 200),
        (["Range: bytes=0-1", "If-Range: TAG", "If-Range: TAG"], 200),
        (["Range: bytes=999999-", 'If-Range: "other"'], 200),
        (["If-Range: TAG"], 200),
        (['If-Range: "other"'], 200),
    ],
)
async def test_if_range_lets_range_count_for_the_same_bytes(
    file: Served, lines: list[str], status: int
) -> None:
    answer = await file.get(*lines)
    assert (answer.status, len(answer.body)) == (status, 2 if status == 206 else SIZE)


@pytest.mark.spec("rfc9110-13.1.5c", "rfc9110-8.8.2.2")
@pytest.mark.parametrize(
    ("now", "date", "status"),
    [(1, 0, 206), (86400, 0, 206), (0.9, 0, 200), (86400, 1, 200), (86400, -1, 200)],
)
async def test_a_date_in_if_range_is_exact_and_strong(
    file: Served, monkeypatch: pytest.MonkeyPatch, now: float, date: int, status: int
) -> None:
    monkeypatch.setattr(ROUTER, "datetime", Clock(file, now))
    for form in file.dates(date).values():
        assert (await file.get("Range: bytes=0-1", f"If-Range: {form}")).status == status
