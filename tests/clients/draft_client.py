"""The IETF draft on a plain socket: draft_client.py SERVICE FILE FOLDER.

It prints the offset of each 104 response, and continues after the bytes that the service has when
a connection ends.
"""

import sys
import time
from pathlib import Path
from socket import create_connection, socket
from threading import Thread
from urllib.parse import urlsplit

service, file, _ = sys.argv[1:]
data = Path(file).read_bytes()
address = urlsplit(service)
#: The most bytes that the service has acknowledged, and the place of the upload.
acknowledged, location = 0, ""


def request(method: str, path: str, body: memoryview, *headers: str) -> tuple[int, dict[str, str]]:
    """Send a request while its interim responses arrive, and return the final one."""
    with create_connection((address.hostname, address.port), timeout=60) as connection:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {address.netloc}", *headers]
        lines += [f"Content-Length: {len(body)}", "Upload-Draft-Interop-Version: 8", "", ""]
        sending = Thread(target=send, args=(connection, "\r\n".join(lines).encode(), body))
        sending.start()
        try:
            return receive(connection)
        finally:
            connection.close()
            sending.join()


def send(connection: socket, head: bytes, body: memoryview) -> None:
    try:
        connection.sendall(head)
        connection.sendall(body)
    except OSError:
        pass  # The other end has ended, which `receive` notices.


def receive(connection: socket) -> tuple[int, dict[str, str]]:
    global acknowledged, location
    stream = connection.makefile("rb")
    while line := stream.readline():
        status, headers = int(line.split()[1]), {}
        while (field := stream.readline().decode().strip()) != "":
            name, _, value = field.partition(":")
            headers[name.lower()] = value.strip()
        location = urlsplit(headers.get("location", location)).path
        if status >= 200:
            return status, headers
        acknowledged = max(acknowledged, int(headers.get("upload-offset", 0)))
    raise ConnectionError("The connection has ended.")


def offset() -> tuple[int, bool]:
    """Return the offset of the upload, once a replica knows it, and whether it is complete."""
    while True:
        try:
            status, headers = request("HEAD", location, memoryview(b""))
            if status < 300:
                return int(headers["upload-offset"]), headers["upload-complete"] == "?1"
            assert status in (423, 503), status
        except OSError:
            pass
        time.sleep(0.05)


at = 0
while True:
    body = memoryview(data)[at:]
    try:
        if location:
            kind = "Content-Type: application/partial-upload"
            fields = ["Upload-Complete: ?1", f"Upload-Offset: {at}", kind]
            status = request("PATCH", location, body, *fields)[0]
        else:
            status = request("POST", "/uploads", body, "Upload-Complete: ?1")[0]
        if status < 300:
            break
        assert status >= 500 or status in (409, 423), status
    except OSError:
        pass
    if location:
        at, is_complete = offset()
        assert at >= acknowledged, f"{acknowledged} bytes were acknowledged, but {at} are left"
        if is_complete:
            break
    time.sleep(0.05)
