"""Tests of the transforms in `transforms.py`."""

import gzip

import httpx


async def test_text_comes_back_in_upper_case(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "text/plain"}
    response = await client.post("/transform/upper", content="grün".encode(), headers=headers)

    assert response.text == "GRÜN"


async def test_bytes_come_back_compressed(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    response = await client.post("/transform/gzip", content=b"again " * 100, headers=headers)

    assert gzip.decompress(response.content) == b"again " * 100
