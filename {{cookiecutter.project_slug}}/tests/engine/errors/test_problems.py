"""The types of problems: each has a URI, and a page that explains it."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi import APIRouter, Request

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.errors import ProblemDocuments
from {{cookiecutter.package_name}}.engine.kernel import Problem, ProblemType, RequestBody
from {{cookiecutter.package_name}}.engine.service import (
    PROBLEM_TYPES,
    Service as Application,
)

from ..service import Service, make_settings

ELSEWHERE = ProblemType("https://example.com/types#elsewhere", "Elsewhere", "It is not here.")
SOLD_OUT = ProblemType("sold-out", "Sold out", "There is none left.")

router = APIRouter()


@router.post("/body")
async def read_body(request: Request) -> int:
    return len(await RequestBody(request, limit=10).read())


@router.get("/elsewhere")
async def refuse() -> None:
    raise Problem(409, type=ELSEWHERE)


class Links(HTMLParser):
    """The URLs in the links of a page."""

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


async def test_a_type_of_others_keeps_its_uri(serve: Any) -> None:
    service: Service = await serve(router)
    async with service.client() as client:
        problem = (await client.get("/elsewhere")).json()

    assert (problem["type"], problem["title"]) == (ELSEWHERE.name, "Elsewhere")


async def test_the_list_leads_to_every_type(service: Service) -> None:
    async with service.client() as client:
        page = await client.get("/problems")
        links = Links(page.text).found
        answers = [await client.get(f"/{link}") for link in links if link.startswith("problems/")]
        unknown = await client.get("/problems/nothing")
        head = await client.head("/problems")

    assert len(links) == len(service.app.state.kernel.problem_types) > 5
    assert {answer.status_code for answer in answers} == {200}
    assert (unknown.status_code, unknown.json()["type"]) == (404, "about:blank")
    assert head.headers["content-length"] == page.headers["content-length"]


def test_an_application_lists_the_types_of_its_parts_and_those_of_its_owner() -> None:
    listed = [
        set(app.state.kernel.problem_types.values())
        for app in (
            Application(make_settings(), ProblemDocuments(SOLD_OUT)),
            Application(make_settings(), ProblemDocuments()),
            create_app(make_settings()),
        )
    ]

    assert set(PROBLEM_TYPES) == listed[1] == listed[0] - {SOLD_OUT}
    assert SOLD_OUT in listed[0] - listed[2]
    assert listed[1] <= listed[2]


async def test_a_page_is_text_whatever_a_type_says(service: Service) -> None:
    kind = ProblemType("<b>", "<i>&", "It is text.")
    service.app.state.kernel.problem_types[kind.name] = kind
    async with service.client() as client:
        page = await client.get("/problems/<b>")
        index = await client.get("/problems")

    assert "<h1>&lt;i&gt;&amp;</h1>" in page.text
    assert '<a href="problems/&lt;b&gt;">&lt;i&gt;&amp;</a>' in index.text


def test_every_type_says_what_it_means_in_a_name_that_stays() -> None:
    kinds = create_app(make_settings()).state.kernel.problem_types
    assert kinds
    for name, kind in kinds.items():
        assert name == kind.name
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*|https://iana\.org/.*", name)
        assert kind.title[0].isupper()
        assert not kind.title.endswith(".")
        assert kind.meaning.endswith(".")
