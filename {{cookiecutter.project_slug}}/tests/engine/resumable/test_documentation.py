"""The OpenAPI document has the headers of the draft."""

import pytest

from ..service import Service


@pytest.mark.parametrize(
    ("path", "method", "fields"),
    [
        ("/uploads", "post", ["Upload-Complete"]),
        ("/uploads/{upload_id}", "patch", ["Upload-Offset", "Upload-Complete"]),
    ],
)
async def test_the_documentation_has_the_fields_without_which_nothing_is_taken(
    service: Service, path: str, method: str, fields: list[str]
) -> None:
    body = {"Content-Type": "application/partial-upload"}
    async with service.client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        refused = await client.request(method, path.format(upload_id="a"), headers=body)

    parameters = paths[path][method]["parameters"]
    needed = [each["name"] for each in parameters if each["in"] == "header" and each["required"]]
    assert needed == fields
    assert refused.status_code == 400
