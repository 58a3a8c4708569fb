"""A body that is declared as a part of a whole: no route accepts it as the whole."""

import pytest

from .service import Service

#: Routes with a body of plain FastAPI: a part of a JSON document is not valid.
PLAIN = {"/ag-ui", "/chat", "/v1/chat/completions"}


@pytest.mark.fault("F4")
async def test_no_route_takes_a_body_with_a_range(service: Service) -> None:
    bodies = {
        path: next(iter(operations["post"]["requestBody"]["content"]))
        for path, operations in service.app.openapi()["paths"].items()
        if "requestBody" in operations.get("post", {})
    }
    answers = {}
    async with service.client() as client:
        for path, media_type in bodies.items():
            headers = {"Content-Type": media_type, "Content-Range": "bytes 0-2/1000"}
            headers |= {"Upload-Complete": "?1"} if path == "/uploads" else {}
            answer = await client.post(path.replace("{", "").replace("}", ""), headers=headers)
            answers[path] = (answer.status_code, "part of a whole" in answer.text)

    invalid = dict.fromkeys(PLAIN.intersection(bodies), (422, False))
    assert answers == dict.fromkeys(bodies, (400, True)) | invalid
