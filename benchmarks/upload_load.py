"""Send uploads to one server at once, and print the duration."""

import mmap
import os
import socket
import threading
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import load
from load import HOST, Load

BLOCK = 1 << 20
BOUNDARY = "b47c1d8e2f"
PART = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
)
#: `application/octet-stream` and the file name `a.bin`, which some servers require.
TUS_METADATA = "filename YS5iaW4=,filetype YXBwbGljYXRpb24vb2N0ZXQtc3RyZWFt"
#: A row of each format; a block consists of whole rows.
ROWS = {
    "application/jsonl": b'{"sensor":"boiler","value":2.5}\n',
    "text/csv": b"boiler-07,21.50\n",
}


@dataclass(frozen=True)
class Plan:
    """`uploads` of `size` bytes, with one of the `request`s below."""

    port: int
    request: str
    path: str
    uploads: int
    size: int
    chunk: int = 0
    """Bytes that arrive at the server at a time; 0 for as many as fit."""
    memory: int = 0
    """Bytes of memory to hold first, and to free as the server needs them."""
    server_core: int = 0

    def __post_init__(self) -> None:
        load.within_bounds(self.uploads, self.uploads * self.size)


@dataclass(frozen=True)
class Body:
    """The body of a request: `size` bytes, and the framing of a form."""

    size: int
    before: bytes = b""
    after: bytes = b""


NOTHING = Body(0)


class Reservoir:
    """Memory for the server's files, freed just before it is needed.

    A virtual machine may return free memory to its host after a second or two, and the first use of
    a page then costs several times as much as the measured work. Memory in use is not returned.
    """

    STEP = 32 << 20
    AHEAD = 64 << 20

    def __init__(self, size: int, core: int) -> None:
        self._size = size
        self._core = {core}
        self._sent = self._freed = 0
        self._lock = threading.Lock()
        self._memory = mmap.mmap(-1, max(size, mmap.PAGESIZE), flags=mmap.MAP_PRIVATE)
        self._memory.madvise(mmap.MADV_HUGEPAGE)
        for page in range(0, size, mmap.PAGESIZE):
            self._memory[page] = 1

    def flow(self, size: int) -> None:
        """Free as much memory as is being sent."""
        with self._lock:
            self._sent += size
            if self._sent + self.AHEAD > self._freed:
                self._free(self._sent + self.AHEAD + self.STEP)

    def open(self) -> None:
        """Free the rest, because some servers copy a file when it is complete."""
        with self._lock:
            self._free(self._size)

    def _free(self, until: int) -> None:
        size = min(until, self._size) // self.STEP * self.STEP - self._freed
        if size > 0:
            # A core reuses memory that was freed on it first, so free it on the core of the server.
            own = os.sched_getaffinity(0)
            os.sched_setaffinity(0, self._core)
            self._memory.madvise(mmap.MADV_DONTNEED, self._freed, size)
            os.sched_setaffinity(0, own)
            self._freed += size


class Source:
    """The bytes of all uploads: a repeated block of rows or of random bytes."""

    def __init__(self, plan: Plan) -> None:
        self.reservoir = Reservoir(plan.memory, plan.server_core)
        row = ROWS.get(plan.request)
        self.block = memoryview(row * (BLOCK // len(row)) if row else os.urandom(BLOCK))
        self.descriptor = os.memfd_create("upload")
        os.write(self.descriptor, self.block)

    def send(self, sock: socket.socket, size: int, chunk: int) -> None:
        """Send `size` bytes: from the page cache, or `chunk` bytes at a time."""
        sent = 0
        while sent < size:
            start = sent % BLOCK
            count = min(chunk or BLOCK, BLOCK - start, size - sent)
            self.reservoir.flow(count)
            if chunk:
                sock.sendall(self.block[start : start + count])
            else:
                count = os.sendfile(sock.fileno(), self.descriptor, start, count)
            sent += count
        if size:
            self.reservoir.open()


def connect(plan: Plan) -> socket.socket:
    """Open a connection that delivers chunks of the size in the plan.

    A network delivers packets, while loopback delivers all buffered data. With a send buffer of one
    chunk, the next chunk is sent when the server's kernel has acknowledged the previous one, which
    it does when the server has read it, so that each read of the server returns one chunk.
    """
    if not plan.chunk:
        return load.connect(plan.port)
    sock = load.connect(plan.port, {socket.SO_SNDBUF: plan.chunk // 2})
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def exchange(plan: Plan, source: Source, head: str, body: Body = NOTHING) -> str:
    """Send one request and return the response."""
    start, *fields = head.splitlines()
    length = len(body.before) + body.size + len(body.after)
    fields += [
        f"Host: {HOST}:{plan.port}",
        f"Content-Length: {length}",
        "Connection: close",
    ]
    with connect(plan) as sock:
        sock.sendall("\r\n".join([f"{start} HTTP/1.1", *fields, "", ""]).encode() + body.before)
        source.send(sock, body.size, plan.chunk)
        sock.sendall(body.after)
        answer = b""
        while data := sock.recv(65536):
            answer += data
    if not answer.startswith(b"HTTP/1.1 2"):
        raise OSError(f"{start}: {answer[:500]!r}")
    return answer.decode("latin-1")


def upload(plan: Plan, source: Source, number: int) -> None:
    """Upload once, as specified by the plan."""
    body = Body(plan.size)
    match plan.request:
        case "raw":
            kind = "Content-Type: application/octet-stream"
            exchange(plan, source, f"POST {plan.path}\n{kind}", body)
        case "put":
            name = f"{number}-{time.monotonic_ns()}"
            exchange(plan, source, f"PUT {plan.path}{name}", body)
        case "form":
            kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
            form = Body(plan.size, PART.encode(), f"\r\n--{BOUNDARY}--\r\n".encode())
            exchange(plan, source, f"POST {plan.path}\n{kind}", form)
        case "tus":
            upload_by_tus(plan, source)
        case kind if kind in ROWS:
            ingest(plan, source, kind)
        case _:
            raise ValueError(plan.request)


def upload_by_tus(plan: Plan, source: Source) -> None:
    """Create an upload and send its bytes in one PATCH."""
    version = "Tus-Resumable: 1.0.0"
    length = f"Upload-Length: {plan.size}\nUpload-Metadata: {TUS_METADATA}"
    created = exchange(plan, source, f"POST {plan.path}\n{version}\n{length}")
    head = created.partition("\r\n\r\n")[0]
    fields = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    (location,) = (value for name, value in fields.items() if name.lower() == "location")
    kind = "Content-Type: application/offset+octet-stream\nUpload-Offset: 0"
    head = f"PATCH {urlsplit(location).path}\n{version}\n{kind}"
    exchange(plan, source, head, Body(plan.size))


def ingest(plan: Plan, source: Source, kind: str) -> None:
    """Send rows, all of which must be accepted."""
    names = b"sensor,value\n" if kind == "text/csv" else b""
    head = f"POST {plan.path}\nContent-Type: {kind}"
    answer = exchange(plan, source, head, Body(plan.size, names))
    count = plan.size // len(ROWS[kind])
    if f'"accepted":{count},' not in answer:
        raise OSError(f"{count} rows sent: {answer!r}")


def run(plan: Plan) -> Load:
    """Execute the plan, with all uploads at once."""
    source = Source(plan)
    try:
        return load.at_once(plan.uploads, lambda number: upload(plan, source, number))
    finally:
        os.close(source.descriptor)


if __name__ == "__main__":
    load.main(lambda values: run(Plan(**values)))
