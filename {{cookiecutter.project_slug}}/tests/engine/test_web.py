"""The demo page: it loads, and runs only its own scripts."""

import re

import pytest

from .service import Service

FILES = ["/", "/web/app.js", "/web/style.css"]


async def test_the_page_is_served_with_a_strict_policy(service: Service) -> None:
    async with service.client() as client:
        page = await client.get("/")

    policy = page.headers["content-security-policy"]
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert '<script type="module" src="web/app.js"' in page.text


@pytest.mark.parametrize("path", FILES)
async def test_a_browser_that_has_a_file_is_told_so(service: Service, path: str) -> None:
    async with service.client() as client:
        first = await client.get(path)
        again = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
        head = await client.head(path)

    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert head.headers["content-length"] == first.headers["content-length"]


async def test_every_module_of_the_script_is_served(service: Service) -> None:
    wanted, types = ["app.js"], dict[str, str]()
    async with service.client() as client:
        while wanted:
            name = wanted.pop()
            answer = await client.get(f"/web/{name}")
            types[name] = answer.headers["content-type"]
            found = re.findall(r'from "\./([^"]+)"', answer.text)
            wanted += [each for each in found if each not in types]

    assert len(types) > 1
    assert {each.partition(";")[0] for each in types.values()} == {"text/javascript"}
