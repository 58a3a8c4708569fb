"""stream-unzip: stream_unzip_client.py < ARCHIVE; prints a line with the SHA-256 of each file."""

import hashlib
import sys

from stream_unzip import stream_unzip  # type: ignore[import-not-found]

chunks = iter(lambda: sys.stdin.buffer.read(1 << 16), b"")
for name, _, content in stream_unzip(chunks):
    digest = hashlib.sha256()
    for chunk in content:
        digest.update(chunk)
    print(name.decode(), digest.hexdigest())  # noqa: T201
