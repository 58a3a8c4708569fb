"""The listing in the OpenAPI document."""

import json

from ..service import Service, resolved
from .stored import store


async def test_the_documentation_has_the_lines_of_the_listing(service: Service) -> None:
    await store(service, b"1")
    async with service.client() as client:
        document = (await client.get("/openapi.json")).json()
        lines = (await client.get("/files")).text.splitlines()

    content = document["paths"]["/files"]["get"]["responses"]["200"]["content"]
    items = content["application/jsonl"]["schema"]["anyOf"]
    row, last = (resolved(document, item) for item in items)
    assert json.loads(lines[0]).keys() == row["properties"].keys()
    assert row["properties"]["id"]["format"] == "uuid"
    assert json.loads(lines[1]).keys() < last["properties"].keys()
