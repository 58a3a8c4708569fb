"""Tests of errors: all of them are problem documents."""

import httpx


async def test_an_error_is_a_problem_document(client: httpx.AsyncClient) -> None:
    response = await client.get("/nothing")

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["title"] == "Not Found"
    assert problem["request_id"] == response.headers["x-request-id"]
