"""Tests of the ingestion in `ingest.py`."""

import httpx

from {{cookiecutter.package_name}} import ingest


async def test_valid_rows_are_taken_and_others_reported(client: httpx.AsyncClient) -> None:
    rows = b'{"sensor": "door", "value": 1.5}\n{"sensor": "door"}\n'
    headers = {"Content-Type": "application/jsonl"}
    response = await client.post("/ingest/readings", content=rows, headers=headers)

    assert response.status_code == 200
    report = response.json()
    assert (report["accepted"], report["rejected"]) == (1, 1)
    assert ingest.latest[-1] == ingest.Reading(sensor="door", value=1.5)
