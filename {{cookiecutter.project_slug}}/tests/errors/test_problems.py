"""The types of problems: each has a URI, which leads to what it means."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi import APIRouter, Request

from {{cookiecutter.package_name}}.streaming import PROBLEM_TYPES, Problem, RequestBody

from ..service import Service

router = APIRouter()


@router.post("/body")
async def read_body(request: Request) -> int:
    return len(await RequestBody(request, limit=10).read())


@router.get("/elsewhere")
async def refuse() -> None:
    raise Problem(409, type="https://example.com/types#elsewhere")


class Links(HTMLParser):
    """The addresses that a page leads to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name == "href"]


@pytest.mark.parametrize("url", [None, "https://files.example.com/api"])
async def test_the_type_of_a_problem_leads_to_its_page(serve: Any, url: str | None) -> None:
    service: Service = await serve(router, server={"public_url": url})
    async with service.client() as client:
        problem = (await client.post("/body", content=b"x" * 11)).json()
        page = await client.get(problem["type"].removeprefix(url or ""))

    assert problem["type"] == f"{url or ''}/problems/too-large"
    assert (problem["title"], problem["limit"]) == ("Too large", 10)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>Too large</h1>" in page.text
    assert "<code>limit</code>" in page.text


async def test_a_type_of_others_keeps_its_uri(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = PROBLEM_TYPES["too-large"]
    monkeypatch.setitem(PROBLEM_TYPES, "https://example.com/types#elsewhere", kind)
    service: Service = await serve(router)
    async with service.client() as client:
        problem = (await client.get("/elsewhere")).json()

    assert problem["type"] == "https://example.com/types#elsewhere"


async def test_the_list_leads_to_every_type(service: Service) -> None:
    async with service.client() as client:
        page = await client.get("/problems")
        links = Links(page.text).found
        answers = [await client.get(f"/{link}") for link in links if link.startswith("problems/")]
        unknown = await client.get("/problems/nothing")
        head = await client.head("/problems")

    assert len(links) == len(PROBLEM_TYPES) > 5
    assert {answer.status_code for answer in answers} == {200}
    assert (unknown.status_code, unknown.json()["type"]) == (404, "about:blank")
    assert head.headers["content-length"] == page.headers["content-length"]


async def test_a_page_is_text_whatever_a_type_says(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Service = await serve(router)
    monkeypatch.setitem(PROBLEM_TYPES, "<b>", PROBLEM_TYPES["too-large"]._replace(title="<i>&"))
    async with service.client() as client:
        page = await client.get("/problems/<b>")
        index = await client.get("/problems")

    assert "<h1>&lt;i&gt;&amp;</h1>" in page.text
    assert '<a href="problems/&lt;b&gt;">&lt;i&gt;&amp;</a>' in index.text


def test_every_type_says_what_it_means_in_a_name_that_stays() -> None:
    for name, kind in PROBLEM_TYPES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*|https://iana\.org/.*", name)
        assert kind.title[0].isupper()
        assert not kind.title.endswith(".")
        assert kind.meaning.endswith(".")
