"""Bodies of events and runs: JSON or text in UTF-8 without a coding; others are refused."""

import gzip
import json

import httpx
import pytest

from ..service import Service

EVENTS, RUN = "/topics/news/events", "/runs/counter"
PARAMETERS = b'{"count": 0}'
#: Charsets and codings that both refuse.
CHARSETS = ["utf-16", "UTF-16LE", "latin-1", '"iso-8859-1"', "utf-8; charset=utf-16"]


async def post(
    service: Service, url: str, content: bytes, content_type: str, *codings: str
) -> httpx.Response:
    fields = [("Content-Type", content_type), *(("Content-Encoding", each) for each in codings)]
    async with service.client() as client:
        return await client.post(url, content=content, headers=fields)


@pytest.mark.parametrize("charset", CHARSETS)
@pytest.mark.parametrize(
    ("url", "media_type", "taken"),
    [
        (EVENTS, "text/plain", "application/json, text/plain"),
        (EVENTS, "application/json", "application/json, text/plain"),
        (RUN, "application/json", "application/json"),
    ],
)
@pytest.mark.fault("F7")
async def test_text_in_another_charset_is_refused(
    service: Service, url: str, media_type: str, taken: str, charset: str
) -> None:
    response = await post(service, url, PARAMETERS, f"{media_type}; charset={charset}")

    assert response.status_code == 415
    assert "UTF-8" in response.json()["detail"]
    assert response.headers.get("accept-post") == response.headers.get("accept") == taken
    assert "accept-encoding" not in response.headers


@pytest.mark.parametrize("codings", [["gzip"], ["identity", "gzip"], ["deflate, gzip"]])
@pytest.mark.parametrize(
    ("url", "media_type"),
    [(EVENTS, "text/plain"), (EVENTS, "application/json"), (RUN, "application/json")],
)
@pytest.mark.parametrize("is_compressed", [True, False])
@pytest.mark.fault("F7")
async def test_a_body_with_a_content_coding_is_refused(
    service: Service, url: str, media_type: str, codings: list[str], is_compressed: bool
) -> None:
    content = gzip.compress(PARAMETERS) if is_compressed else PARAMETERS
    response = await post(service, url, content, media_type, *codings)

    assert response.status_code == 415
    assert response.headers.get("accept-encoding") == "identity"
    assert "accept-post" not in response.headers


@pytest.mark.parametrize("url", [EVENTS, RUN])
@pytest.mark.fault("F7")
async def test_a_refusal_names_the_media_types_that_are_taken(service: Service, url: str) -> None:
    response = await post(service, url, PARAMETERS, "image/png")

    assert response.status_code == 415
    assert "application/json" in response.headers.get("accept-post", "")
    assert response.headers.get("accept") == response.headers.get("accept-post")


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
@pytest.mark.parametrize("url", [EVENTS, RUN])
@pytest.mark.parametrize("value", [{"count": 0}, 1, "é"])
async def test_json_in_utf_16_is_never_taken_for_something_else(
    service: Service, url: str, value: object, coding: str
) -> None:
    content = json.dumps(value, ensure_ascii=False).encode(coding)
    response = await post(service, url, content, "application/json")

    assert response.status_code == 422


@pytest.mark.parametrize("content", [b"h\xe9", "hi".encode("utf-16"), b"\xed\xa0\x80"])
async def test_text_that_is_not_utf_8_is_refused(service: Service, content: bytes) -> None:
    assert (await post(service, EVENTS, content, "text/plain")).status_code == 422


@pytest.mark.parametrize(
    "parameter", ["", "; charset=utf-8", ';charset="UTF-8"', "; charset=utf8", "; charset=us-ascii"]
)
async def test_utf_8_is_taken_however_it_is_spelt(service: Service, parameter: str) -> None:
    for url, media_type, status in [
        (EVENTS, "text/plain", 202),
        (EVENTS, "Application/JSON", 202),
        (RUN, "application/json", 201),
    ]:
        response = await post(service, url, PARAMETERS, media_type + parameter, "identity")
        assert response.status_code == status


async def test_a_run_without_parameters_needs_no_content_type(service: Service) -> None:
    for content_type in ["", "text/plain; charset=utf-16"]:
        assert (await post(service, RUN, b"", content_type, "gzip")).status_code == 201
