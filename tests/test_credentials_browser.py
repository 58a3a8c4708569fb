"""A browser uses tickets and subprotocols, because its pages cannot set headers of all requests."""

import io
import json
import subprocess
import wave
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from baking import Project
from environment import Environment
from running import running

#: Runs in the same process of pytest as the other tests with this browser.
pytestmark = pytest.mark.xdist_group("download browser")


def sound() -> bytes:
    """Return a second of silence, which `<video>` plays."""
    with io.BytesIO() as file:
        with wave.open(file, "wb") as recording:
            recording.setparams((1, 1, 8000, 0, "NONE", ""))
            recording.writeframes(bytes(8000))
        return file.getvalue()


def upload(port: int, key: str) -> str:
    """Store a sound, and return its id."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "audio/wav"}
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", "/files?filename=a.wav", sound(), headers)
        response = connection.getresponse()
        assert response.status == 201
        return str(json.load(response)["id"])


def test_chromium_uses_a_key_without_headers_until_it_is_revoked(
    complete: Project, environment: Environment, node: str, scripts: Path, chromium: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    keys = ("python", "-m", complete.package, "keys")
    create = (*keys, "create", "phone", "member", "files:read")
    key = environment.run(complete, *create, folder=tmp_path).stdout.split()[-1]
    with running(complete, environment, tmp_path) as port:
        service = f"http://127.0.0.1:{port}"
        with subprocess.Popen(
            [node, str(scripts / "credentials.mjs"), chromium, service, key, upload(port, key)],
            stdout=subprocess.PIPE,
            encoding="utf-8",
        ) as browser:
            assert browser.stdout is not None
            assert browser.stdout.readline() == "open\n"
            revoked = environment.run(complete, *keys, "revoke", "phone", folder=tmp_path)
            results = json.loads(browser.stdout.read())

    assert revoked.returncode == 0
    assert results == {
        "event": '{"total":1}',
        "again": 2,  # CLOSED: it does not reconnect.
        "protocol": "bearer",
        "wrong": 1006,
        "bare": 1006,
        "ticketOpened": True,
        "played": "loadedmetadata",
        "revoked": 4401,
    }
