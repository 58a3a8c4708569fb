"""Tests of the run in `runs.py`."""

import json

import httpx


async def test_a_run_is_followed_to_its_end(client: httpx.AsyncClient) -> None:
    started = await client.post("/runs/counter", json={"count": 2, "interval": 0})
    assert started.status_code == 201

    # The stream ends when the run ends, so `get` returns.
    stream = await client.get(started.json()["events"])
    data = [line.removeprefix("data: ") for line in stream.text.splitlines() if "data: " in line]
    first, second, end = map(json.loads, data)
    assert (first, second) == ({"number": 1, "of": 2}, {"number": 2, "of": 2})
    assert end == {"status": "complete"}
