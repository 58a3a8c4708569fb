"""`/docs` and `/redoc`: the service has all that they load, and nothing else may run in them."""

import re
from typing import Any

import pytest

from {{cookiecutter.package_name}}.app import create_app
from {{cookiecutter.package_name}}.engine.service import Service as Application
from {{cookiecutter.package_name}}.engine.testing import LiveServer

from .service import Service, make_settings

PAGES = ["/docs", "/docs/oauth2-redirect", "/redoc"]


def sources_of(policy: str) -> dict[str, str]:
    return dict(part.split(" ", 1) for part in policy.split("; "))


@pytest.mark.fault("G41")
@pytest.mark.parametrize("path", PAGES)
async def test_a_page_loads_nothing_from_elsewhere(service: Service, path: str) -> None:
    async with service.client() as client:
        page = await client.get(path)
        loaded = re.findall(r"""(?:src|href|spec-url)="([^"]*)""", page.text)
        answers = [await client.get(each) for each in loaded]

    assert "http" not in page.headers["content-security-policy"]
    assert all(each.startswith("/") for each in loaded)
    assert [answer.status_code for answer in answers] == [200] * len(loaded)
    assert len(loaded) == (0 if path == PAGES[1] else 3)


@pytest.mark.fault("G41")
@pytest.mark.parametrize("path", PAGES)
async def test_only_the_scripts_of_a_page_may_run_in_it(service: Service, path: str) -> None:
    async with service.client() as client:
        pages = [await client.get(path), await client.get(path)]

    for page in pages:
        sources = sources_of(page.headers["content-security-policy"])
        nonces = re.findall(r"""<script nonce="([^"]*)""", page.text)
        assert {f"'nonce-{nonce}'" for nonce in nonces} == {sources["script-src"]}
        assert page.text.count("<script") == len(nonces) > 0
        assert sources["default-src"] == sources["frame-ancestors"] == "'none'"
        assert sources["connect-src"] == "'self'"
        assert ("unsafe" in sources["style-src"]) is (path == "/redoc")
    first, second = (page.headers["content-security-policy"] for page in pages)
    assert first != second


async def test_the_files_of_the_pages_are_kept_by_a_browser(service: Service) -> None:
    async with service.client() as client:
        script = await client.get("/docs/assets/swagger-ui-bundle.js")
        known = {"If-None-Match": script.headers["etag"]}
        again = await client.get("/docs/assets/swagger-ui-bundle.js", headers=known)
        missing = await client.get("/docs/assets/nothing.js")

    assert script.headers["content-type"].startswith("text/javascript")
    assert (again.status_code, missing.status_code) == (304, 404)


@pytest.mark.fault("G41")
async def test_docs_that_are_turned_off_are_gone_with_their_documents() -> None:
    app = create_app(make_settings(server={"docs": False}))
    paths = [*PAGES, "/docs/assets/swagger-ui-bundle.js", "/openapi.json", "/openapi-3.2.json"]
    async with LiveServer(app) as live, live.client() as client:
        statuses = [(await client.get(path)).status_code for path in paths]
        index = await client.get("/", headers={"Accept": "application/json"})

    assert statuses == [404] * len(paths)
    assert "/docs" not in index.text


@pytest.mark.parametrize(
    ("options", "there", "gone"),
    [
        ({"docs_url": "/api", "redoc_url": None}, ["/api", "/api/assets/favicon.png"], "/redoc"),
        ({"docs_url": None}, ["/redoc", "/redoc/assets/favicon.png"], "/docs"),
        ({"openapi_url": None}, ["/health/live"], "/docs"),
    ],
)
async def test_the_pages_are_where_the_owner_wants_them(
    options: dict[str, Any], there: list[str], gone: str
) -> None:
    app = Application(make_settings(), **options)
    async with LiveServer(app) as live, live.client() as client:
        statuses = [(await client.get(path)).status_code for path in (*there, gone)]

    assert statuses == [200] * len(there) + [404]


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_the_addresses_of_a_page_have_the_prefix_that_a_proxy_removes(path: str) -> None:
    app = create_app(make_settings())
    async with LiveServer(app, root_path="/api") as live, live.client() as client:
        page = (await client.get(path)).text

    assert "/api/openapi.json" in page
    assert all(each.startswith("/api/") for each in re.findall(r"""(?:src|href)="([^"]*)""", page))
