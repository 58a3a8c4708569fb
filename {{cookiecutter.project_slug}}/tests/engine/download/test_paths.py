"""Ids are not paths: files outside of the store are not served."""

from pathlib import Path

import pytest

from ..service import Service


@pytest.mark.trap("D1")
@pytest.mark.parametrize("name", ["..%2fsecret", "%2e%2e/secret", "{path}", "%2f{path}"])
async def test_a_file_outside_of_the_store_is_not_there(
    service: Service, tmp_path: Path, name: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    async with service.raw_connection() as peer:
        await peer.get(f"/files/{name.format(path=secret)}", "Connection: close")
        answer = await peer.read_to_end()

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"secret" not in answer.partition(b"\r\n\r\n")[2].replace(b"/secret", b"")
