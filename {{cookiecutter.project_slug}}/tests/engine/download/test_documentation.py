"""The OpenAPI document of downloads, exports and archives."""

import pytest

from ..service import Service


@pytest.mark.trap("E7")
@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        ("/files/{file_id}", {"*/*", "application/octet-stream"}),
        ("/exports/lines", {"application/jsonl", "text/csv", "text/plain"}),
    ],
)
async def test_the_documentation_has_the_media_types_of_what_is_sent(
    service: Service, path: str, kinds: set[str]
) -> None:
    async with service.client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert paths[path]["get"]["responses"]["200"]["content"].keys() == kinds
