"""The demo page: it loads, and it may run nothing but itself."""

import pytest

from .service import Service


async def test_the_page_is_served_with_a_strict_policy(service: Service) -> None:
    async with service.client() as client:
        page = await client.get("/")

    policy = page.headers["content-security-policy"]
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert '<script type="module" src="web/app.js"' in page.text


@pytest.mark.parametrize("path", ["/", "/web/app.js", "/web/style.css"])
async def test_a_browser_that_has_a_file_is_told_so(service: Service, path: str) -> None:
    async with service.client() as client:
        first = await client.get(path)
        again = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
        head = await client.head(path)

    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert head.headers["content-length"] == first.headers["content-length"]
