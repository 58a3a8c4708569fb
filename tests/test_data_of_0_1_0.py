"""Files, uploads and events of version 0.1.0 are available after an update.

`data/` contains the storage directory of a service after it had ended, and after it was killed in
the middle of two uploads, the responses of the service about the files, and the keys of its Redis,
as commands.
"""

import hashlib
import io
import json
import socket
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from answers import REPOSITORY
from baking import Project
from environment import Environment
from running import redis_server, running

DATA = REPOSITORY / "tests/data"
FILES = json.loads((DATA / "files_of_0_1_0.json").read_text("utf-8"))
EVENTS = json.loads((DATA / "events_of_0_1_0.json").read_text("utf-8"))
#: The complete content of the unfinished uploads.
CONTENT = bytes(range(256)) * 40
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
DRAFT = {"Content-Type": "application/partial-upload", "Upload-Complete": "?1"}
JSON = {"Content-Type": "application/json"}
NO_HEADERS: Mapping[str, str] = {}
LONG = "36500 d"


class Answer(NamedTuple):
    """A response with its body."""

    status: int
    headers: HTTPMessage
    content: bytes

    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.content)
        return document


class Client(HTTPConnection):
    """A connection to a service on this machine."""

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port, timeout=30)

    def send_and_read(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = NO_HEADERS
    ) -> Answer:
        self.request(method, path, body, dict(headers))
        response = self.getresponse()
        return Answer(response.status, response.headers, response.read())

    def read(self, path: str) -> Answer:
        return self.send_and_read("GET", path)


@pytest.fixture(params=["ended", "killed"])
def client(
    request: pytest.FixtureRequest, full: Project, environment: Environment, tmp_path: Path
) -> Iterator[Client]:
    """A client of the service with one of these directories."""
    with zipfile.ZipFile(DATA / f"files_of_0_1_0_{request.param}.zip") as archive:
        archive.extractall(tmp_path / "data")
    settings = {"STORAGE__URL": "file:data", "UPLOAD__EXPIRE_AFTER": LONG}
    with (
        running(full, environment, tmp_path, **settings) as port,
        closing(Client(port)) as client,
    ):
        yield client


def listed(client: Client, after: int = 0) -> list[dict[str, Any]]:
    *lines, end = client.read(f"/files?after={after}").content.splitlines()
    assert json.loads(end) == {"$end": {"count": len(lines)}}
    return [json.loads(line) for line in lines]


def without_address(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "url"}


def test_every_file_is_listed_as_before_and_has_the_same_bytes(client: Client) -> None:
    found = listed(client)
    bodies = [client.read(f"/files/{record['id']}").content for record in found]
    digests = [hashlib.sha256(body).hexdigest() for body in bodies]
    before = [{k: v for k, v in file.items() if k != "sha256"} for file in FILES["files"]]

    assert [without_address(record) for record in found] == before
    assert digests == [file["sha256"] for file in FILES["files"]]
    assert {"größe €.txt", "表.csv"} <= {record["filename"] for record in found}
    assert listed(client, after=before[1]["cursor"]) == found[2:]


@pytest.mark.fault("G26")
def test_files_are_archived_and_the_archive_is_resumed(client: Client) -> None:
    path = "/archive?id=" + "&id=".join(file["id"] for file in FILES["files"])
    whole = client.read(path)
    fields = {"Range": "bytes=100-", "If-Range": whole.headers["etag"]}
    rest = client.send_and_read("GET", path, headers=fields)
    with zipfile.ZipFile(io.BytesIO(whole.content)) as archive:
        digests = [hashlib.sha256(archive.read(each)).hexdigest() for each in archive.infolist()]

    assert digests == [file["sha256"] for file in FILES["files"]]
    assert (rest.status, rest.content) == (206, whole.content[100:])
    before = [{k: v for k, v in file.items() if k != "sha256"} for file in FILES["files"]]
    assert [without_address(record) for record in listed(client)] == before


def test_a_file_can_be_deleted_and_deleted_files_stay_deleted(client: Client) -> None:
    first, *others = [file["id"] for file in FILES["files"]]

    assert client.read(f"/files/{FILES['deleted']}").status == 404
    assert client.send_and_read("DELETE", f"/files/{first}").status == 204
    assert client.read(f"/files/{first}").status == 404
    assert [record["id"] for record in listed(client)] == others


def test_a_file_in_quarantine_stays_there(client: Client, tmp_path: Path) -> None:
    [kept] = (tmp_path / "data" / "quarantine").iterdir()

    assert kept.read_bytes() == b"refused bytes"
    assert client.read(f"/files/{kept.name}").status == 404


def test_an_interrupted_upload_resumes_at_the_reported_offset(
    client: Client,
) -> None:
    upload = FILES["uploads"]["cut"]["id"]
    offset = client.send_and_read("HEAD", f"/uploads/{upload}", headers=TUS).headers[
        "upload-offset"
    ]
    fields = TUS | {"Upload-Offset": offset}
    done = client.send_and_read("PATCH", f"/uploads/{upload}", CONTENT[int(offset) :], fields)

    assert done.status == 204
    assert client.read(f"/files/{upload}").content == CONTENT


def test_an_upload_by_tus_resumes_at_its_offset(client: Client) -> None:
    upload = FILES["uploads"]["tus"]
    url, offset = f"/uploads/{upload['id']}", upload["offset"]
    head = client.send_and_read("HEAD", url, headers=TUS)
    fields = TUS | {"Upload-Offset": str(offset)}
    done = client.send_and_read("PATCH", url, CONTENT[offset:], fields)

    assert (head.status, head.headers["upload-offset"]) == (200, str(offset))
    assert head.headers["upload-length"] == str(len(CONTENT))
    assert (done.status, done.headers["upload-offset"]) == (204, str(len(CONTENT)))
    assert client.read(f"/files/{upload['id']}").content == CONTENT
    record = listed(client)[-1]
    assert (record["filename"], record["metadata"]) == ("tus halb ü.bin", {"note": "naïve 漢字"})


def test_an_upload_by_the_draft_resumes_at_its_offset(client: Client) -> None:
    upload = FILES["uploads"]["draft"]
    url, offset = f"/uploads/{upload['id']}", upload["offset"]
    head = client.send_and_read("HEAD", url)
    fields = DRAFT | {"Upload-Offset": str(offset)}
    done = client.send_and_read("PATCH", url, CONTENT[offset:], fields)

    assert (head.headers["upload-offset"], head.headers["upload-complete"]) == (str(offset), "?0")
    assert done.status in (200, 201, 204)
    assert client.read(f"/files/{upload['id']}").content == CONTENT
    assert listed(client)[-1]["filename"] == "entwurf ü.bin"


def test_a_part_can_still_become_a_part_of_a_file(client: Client) -> None:
    part = FILES["uploads"]["part"]
    fields = TUS | {"Upload-Concat": f"final;/uploads/{part['id']}"}
    whole = client.send_and_read("POST", "/uploads", headers=fields)

    assert whole.status == 201
    file_id = whole.headers["location"].rpartition("/")[2]
    assert client.read(f"/files/{file_id}").content == CONTENT[: part["offset"]]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """The address of a Redis with the keys of 0.1.0."""
    with redis_server(tmp_path) as port:
        replay(port, EVENTS["commands"])
        yield f"redis://127.0.0.1:{port}/0"


def replay(port: int, commands: list[list[str]]) -> None:
    """Run commands; each reply is a number, a status or a text of one line."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        answers = connection.makefile("rb")
        for command in commands:
            words = [word.encode() for word in command]
            parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
            connection.sendall(b"*%d\r\n%b" % (len(words), b"".join(parts)))
            answer = answers.readline()
            assert answer[:1] in b":+$", answer
            if answer.startswith(b"$"):
                answers.readline()


def test_clients_resume_after_their_last_event_ids(
    full: Project, environment: Environment, broker: str, tmp_path: Path
) -> None:
    settings = {"REALTIME__BROKER_URL": broker, "REALTIME__HISTORY_AGE": LONG}
    news, ids = "/topics/news,room.*/events", EVENTS["ids"]
    with (
        running(full, environment, tmp_path, **settings) as port,
        closing(Client(port)) as client,
    ):
        publish = partial(client.send_and_read, "POST")
        polled = client.read(f"{news}?poll=0&last_event_id={ids[0]}").json()
        run = client.read(f"/runs/{EVENTS['run']['id']}/events").content
        once = JSON | {"Idempotency-Key": "once-4"}
        first, again = (publish("/topics/news/events", b"4", once).json() for _ in range(2))
        new = publish("/topics/room.a/events", b"5", JSON).json()
        rest = client.read(f"{news}?poll=0&last_event_id={ids[-1]}").json()

    assert polled == EVENTS["polled"]
    assert run.decode() == EVENTS["run"]["events"]
    # Keys of older versions, with the address of the client, are unknown.
    assert first == again
    assert [event["id"] for event in rest["events"]] == [first["id"], new["id"]]
    assert new["id"].partition("-")[0] == ids[0].partition("-")[0]
