"""Tests of the callbacks in `files.py`."""

import httpx
import pytest


async def test_a_callback_is_called_when_a_file_is_stored(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = await client.post("/files", params={"filename": "a.txt"}, content=b"hello")

    assert response.status_code == 201
    record = response.json()
    assert (record["filename"], record["size"]) == ("a.txt", 5)
    assert f"stored {record['id']}: 5 bytes" in caplog.text


async def test_a_callback_is_called_when_a_file_is_deleted(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    file_id = (await client.post("/files", content=b"hello")).json()["id"]
    response = await client.delete(f"/files/{file_id}")

    assert response.status_code == 204
    assert f"deleted {file_id}" in caplog.text
