"""Content-Type and Content-Encoding: unsupported charsets and codings get 415."""

from typing import Any

import httpx
import pytest

from {{cookiecutter.package_name}}.ingest import latest

from ..service import Service

ROW = b"sensor,value\ns,1\n"
ROWS = "application/jsonl, application/x-ndjson, text/csv"
CODINGS = [["gzip"], ["gzip", "identity"], ["identity, br"]]
#: In a second header of the same name, which an earlier version ignored.
SECOND = [["identity", "gzip"], ["Identity", "x"]]


@pytest.fixture(autouse=True)
def _nothing_yet() -> None:
    latest.clear()


async def post(service: Service, url: str, content_type: str, *codings: str) -> httpx.Response:
    fields = [("Content-Type", content_type), *(("Content-Encoding", each) for each in codings)]
    async with service.client() as client:
        return await client.post(url, content=ROW, headers=fields)


@pytest.mark.parametrize(
    "parameter",
    [
        "",
        ";",
        "; charset=utf-8",
        ";CHARSET=UTF-8",
        '; charset="utf-8"',
        *(
            pytest.param(f"; charset={name}", marks=pytest.mark.fault("F3"))
            for name in ["utf8", "UTF8", '"utf8"', "ascii"]
        ),
        "; charset=us-ascii",
        "; header=present; charset=utf-8; other=1",
    ],
)
async def test_utf_8_is_read_however_it_is_spelt(service: Service, parameter: str) -> None:
    response = await post(service, "/ingest/readings", f"text/csv{parameter}")

    assert (response.status_code, len(latest)) == (200, 1)


@pytest.mark.parametrize(
    ("parameter", "name"),
    [
        ("charset=utf-16", "utf-16"),
        ('charset="UTF-16LE"', "UTF-16LE"),
        ("charset=iso-8859-1", "iso-8859-1"),
        ("charset=windows-1252; header=present", "windows-1252"),
        ("charset=utf-8-sig", "utf-8-sig"),
        ('other="a;b\\";charset=utf-8"; ;charset = "utf-16"', "utf-16"),
        ("charset*=utf-8''utf-16", "utf-16"),
        ("charset=" + "x" * 1000, "x" * 40),
        ("charset=\xfc", "\xfc"),
    ],
)
@pytest.mark.fault("F3")
async def test_any_other_charset_is_refused_by_its_name(
    service: Service, parameter: str, name: str
) -> None:
    fields = {b"Content-Type": f"text/csv; {parameter}".encode("latin-1")}
    async with service.client() as client:
        response = await client.post("/ingest/readings", content=ROW, headers=fields)

    assert (response.status_code, len(latest)) == (415, 0)
    assert f"'{name}'" in response.json()["detail"]
    assert response.headers.get("accept-post") == ROWS


@pytest.mark.parametrize("codings", [*CODINGS, *SECOND, []])
@pytest.mark.fault("F7")
async def test_a_refusal_names_what_is_taken_in_the_field_of_its_cause(
    service: Service, codings: list[str]
) -> None:
    content_type = "text/csv" if codings else "application/json"
    response = await post(service, "/ingest/readings", content_type, *codings)

    taken = None if codings else ROWS
    assert response.status_code == 415
    assert response.headers.get("accept-post") == response.headers.get("accept") == taken
    # RFC 9110, section 12.5.3: only a refused coding is reported with this header.
    assert response.headers.get("accept-encoding") == ("identity" if codings else None)


@pytest.mark.parametrize(
    "codings",
    [*CODINGS, *(pytest.param(each, marks=pytest.mark.fault("F7")) for each in SECOND)],
)
@pytest.mark.parametrize(
    ("content_type", "more"),
    [
        ("application/octet-stream", {}),
        ("multipart/form-data; boundary=x", {}),
        ("text/csv", {"Upload-Complete": "?1"}),
    ],
)
async def test_no_file_is_stored_of_a_body_with_a_coding(
    service: Service, content_type: str, more: dict[str, str], codings: list[str]
) -> None:
    fields: list[tuple[str, Any]] = [("Content-Type", content_type), *more.items()]
    fields += [("Content-Encoding", each) for each in codings]
    async with service.client() as client:
        response = await client.post("/files", content=ROW, headers=fields)
        assert response.status_code == 415
        assert response.headers.get("accept-encoding") == "identity"


@pytest.mark.parametrize("codings", [["identity"], ["identity", "IDENTITY"], ["identity,"], [""]])
async def test_a_body_that_says_that_it_has_no_coding_is_taken(
    service: Service, codings: list[str]
) -> None:
    rows = await post(service, "/ingest/readings", "text/csv", *codings)
    file = await post(service, "/files", "text/csv", *codings)

    assert (rows.status_code, file.status_code, len(latest)) == (200, 201, 1)


@pytest.mark.parametrize(
    "parameter",
    [
        "charset*=undefined''x",
        pytest.param("charset=utf-8; charset=utf-16", marks=pytest.mark.fault("F7")),
        'charset="utf-16',
        "charset=",
        pytest.param("charset*=idna''%80", marks=pytest.mark.fault("F7")),
        pytest.param(f"charset*{'9' * 5000}=x", marks=pytest.mark.fault("F7")),
        pytest.param("charset*0*=utf-16''x; charset*1=y", marks=pytest.mark.fault("F7")),
    ],
)
async def test_a_charset_that_cannot_be_read_is_refused(service: Service, parameter: str) -> None:
    response = await post(service, "/ingest/readings", f"text/csv; {parameter}")

    assert response.status_code in (415, 431)
    assert len(latest) == 0


@pytest.mark.fault("G34")
@pytest.mark.parametrize("is_form", [False, True])
async def test_a_media_type_has_at_most_255_bytes(service: Service, is_form: bool) -> None:
    async with service.client() as client:

        async def upload(length: int) -> httpx.Response:
            media_type = "text/" + "x" * (length - len("text/"))
            if is_form:
                return await client.post("/files", files={"file": ("a", b"x", media_type)})
            return await client.post("/files", content=b"x", headers={"Content-Type": media_type})

        assert (await upload(255)).status_code == 201
        assert (await upload(256)).status_code == 415
