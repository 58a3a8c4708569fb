"""Tests of the exports in `exports.py`."""

import csv
import json

import httpx


async def test_an_export_is_sent_as_json_lines(client: httpx.AsyncClient) -> None:
    response = await client.get("/exports/lines", params={"count": 2})

    assert response.status_code == 200
    *rows, end = map(json.loads, response.text.splitlines())
    assert rows == [{"number": 1, "text": "line 1"}, {"number": 2, "text": "line 2"}]
    assert end == {"$end": {"count": 2}}


async def test_an_export_is_sent_as_csv_when_accept_says_so(
    client: httpx.AsyncClient,
) -> None:
    query = {"after": 100, "limit": 3}
    response = await client.get("/exports/table", params=query, headers={"Accept": "text/csv"})

    rows = list(csv.DictReader(response.text.splitlines()))
    assert [row["id"] for row in rows] == ["101", "102", "103"]
