"""Single requests below 100 kB, each as expensive as its route permits."""

import base64
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from hostile_attacks import FIN, PING, TEXT, frame, handshake
from single_request_state import APPENDED, TIMES, State, topic

#: Maximum size of a request, with a margin for headers.
MOST = 100_000
#: Maximum size of a header value, below the limit of all headers.
VALUE = 60_000
TUS = {"Tus-Resumable": "1.0.0"}

Build = Callable[[State], bytes]


@dataclass(frozen=True)
class Single:
    """A single request, or a short exchange on one connection."""

    name: str
    build: Build
    then: bytes = field(default=b"", kw_only=True)
    """What is sent after the response to a handshake."""
    reads: bool = field(default=True, kw_only=True)
    """Whether the client takes the response."""


def http(method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Build:
    """Build a request; fields such as `{start}` in its text are replaced from the state."""

    def build(state: State) -> bytes:
        names = {
            "start": state.start, "large": state.ids[0], "small": state.ids[-1],
            "host": state.host, "part": state.part, "upload": state.upload,
        }  # fmt: skip
        lines = [f"{method} {path} HTTP/1.1", "Host: {host}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if method != "GET":
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([*lines, "", ""])
        for name, value in names.items():
            head = head.replace(f"{{{name}}}", value)
        return head.encode("latin-1") + body

    return build


def get(name: str, path: str, **headers: str) -> Single:
    return Single(name, http("GET", path, spelt(headers)))


def unread(name: str, path: str) -> Single:
    return Single(f"{name}, not read", http("GET", path), reads=False)


def post(name: str, path: str, media_type: str, body: bytes, **headers: str) -> Single:
    return Single(name, http("POST", path, {"Content-Type": media_type, **spelt(headers)}, body))


def spelt(headers: dict[str, str]) -> dict[str, str]:
    """Return headers by names, which have `_` in keywords."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


def tus(name: str, **headers: str) -> Single:
    return Single(name, http("POST", "/uploads", {**TUS, **spelt(headers)}))


def websocket(name: str, path: str, then: bytes = b"") -> Single:
    def build(state: State) -> bytes:
        text = handshake(path.replace("{start}", state.start))
        return text.replace("{host}", state.host).encode()

    return Single(f"WebSocket, {name}", build, then=then)


def archive(method: str, **headers: str) -> Build:
    def build(state: State) -> bytes:
        ids = "&".join(f"id={each}" for each in state.ids[1:1000])
        return http(method, f"/archive?{ids}", spelt(headers))(state)

    return build


def long_archive(state: State) -> bytes:
    body = json.dumps(state.ids[1:], separators=(",", ":")).encode()
    return http("POST", "/archive", {"Content-Type": JSON}, body)(state)


def concatenation(state: State) -> bytes:
    parts = " ".join([state.part] * TIMES)
    return http("POST", "/uploads", {**TUS, "Upload-Concat": f"final;{parts}"})(state)


def append(state: State) -> bytes:
    headers = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    return http("PATCH", "{upload}", headers, b"x" * APPENDED)(state)


def all_topics(state: State) -> bytes:
    names = ",".join(topic(number) for number in range(32))
    return http("GET", f"/topics/{names}/events?last_event_id={{start}}")(state)


def form(part: bytes, count: int) -> bytes:
    return (b"--b\r\n" + part) * count + b"--b--\r\n"


def file(header: str, value: str) -> Single:
    return post(f"/files: {header.replace('_', '-')}", "/files", BINARY, b"x", **{header: value})


def long(unit: str, size: int = VALUE) -> str:
    return unit * (size // len(unit))


FORM = "multipart/form-data; boundary=b"
#: Many places in the central directory of an archive.
DIRECTORY = ",".join(f"{start}-{start + 149}" for start in range(1_060_000, 1_110_000, 250))
JSONL, CSV, JSON, TEXT_PLAIN = "application/jsonl", "text/csv", "application/json", "text/plain"
BINARY = "application/octet-stream"
NEW = "/topics/" + ",".join(f"u{number}.*" for number in range(32)) + "/events?poll=0"
KNOWN = ",".join(["a.*", *(f"b{number}.*" for number in range(31))])
DISPOSITION = b'Content-Disposition: form-data; name="f"'
REPLAY = "/topics/a.*/events?last_event_id={start}"
RANGES = ",".join(f"{2 * number}-{2 * number}" for number in range(6000))
SMALL = DISPOSITION + b'; filename="a"\r\n\r\nx\r\n'
LINES = DISPOSITION + b"\r\n" + b"a:\r\n" * 31 + b"\r\n\r\n"
LEFT_EMPTY = DISPOSITION + b'; filename=""\r\n\r\n\r\n'
PARAMETERS = DISPOSITION + b'; a="' + b";" * 16_000 + b'"\r\n\r\n\r\n'
SUBSCRIBE = b'{"type":"subscribe","topics":["a.*"]}'
INGEST = "/ingest/readings"
BOMB = gzip.compress(bytes(80 << 20))
DEEP = b"[" * 45_000 + b"]" * 45_000
METADATA = ",".join(f"k{number} {base64.b64encode(b'v').decode()}" for number in range(5000))

READS = [
    get("live", "/health/live"),
    get("ready", "/health/ready"),
    get("metrics", "/metrics"),
    get("openapi", "/openapi.json"),
    get("docs", "/docs"),
    get("listing", "/files"),
    unread("listing", "/files"),
    get("listing, large limit", "/files?limit=2147483647"),
    get("listing, after the end", "/files?after=9223372036854775807"),
    get("record", "/files/{large}/record"),
    get("file", "/files/{large}"),
    get("file, digest", "/files/{large}", Want_Repr_Digest="sha-512=10, sha-256=9, md5=8"),
    get("file, ranges", "/files/{large}", Range=f"bytes={RANGES}"),
    get("file, etags", "/files/{large}", If_None_Match=long('"e",')),
    Single("archive of 2500", long_archive),
    Single("archive of 2500, again", long_archive),
    Single("archive of 1000", archive("GET")),
    Single("archive of 1000, ranges", archive("GET", Range=f"bytes={DIRECTORY}")),
    Single("archive of 1000, HEAD", archive("HEAD")),
    get("export lines", "/exports/lines?count=10000"),
    unread("export lines", "/exports/lines?count=10000"),
    get("export lines, CSV", "/exports/lines?count=10000", Accept="text/csv"),
    get("export table", "/exports/table"),
    get("export table, CSV", "/exports/table", Accept="text/csv"),
    get("export table, gzip", "/exports/table", Accept_Encoding="gzip"),
    get("prefix replay, SSE", REPLAY),
    unread("prefix replay, SSE", REPLAY),
    get("prefix replay, JSON Lines", REPLAY, Accept=JSONL),
    get("prefix replay, poll", REPLAY + "&poll=0"),
    websocket("prefix replay", "/topics/a.*/ws?last_event_id={start}"),
    Single("replay of 32 topics", all_topics),
    get("32 prefixes, SSE", f"/topics/{KNOWN}/events?last_event_id={{start}}"),
    get("32 new prefixes, poll", NEW),
    get("32 new prefixes, poll from start", f"{NEW}&last_event_id={{start}}"),
    websocket("90 kB of pings", "/topics/n/ws", frame(FIN | PING) * 15_000),
    websocket("90 kB of empty text", "/topics/n/ws", frame(FIN | TEXT) * 15_000),
    websocket("90 kB of subscribe", "/topics/n/ws", frame(FIN | TEXT, SUBSCRIBE) * 2000),
]  # fmt: skip

HEADERS = [
    get("12,000 header lines", "/health/live", a=long("\r\na:", 36_000)),
    get("query of 60 kB", "/files?" + long("a=b&")),
    get("path of 60 kB", "/files/" + long("%2e/")),
    *(
        get(f"{name.replace('_', '-')} of 60 kB", "/files/{large}", **{name: long(unit)})
        for name, unit in [
            ("Accept", "a/b;q=0.1,"), ("Accept_Encoding", "gzip;q=0.1,"), ("Cookie", "a=b; "),
            ("Forwarded", "for=1.2.3.4;"), ("X_Forwarded_For", "1.2.3.4,"), ("Range", ","),
            ("If_Range", '"'), ("If_Modified_Since", "9"), ("Want_Repr_Digest", "sha-256=1,"),
            ("traceparent", "0"), ("tracestate", "a=b,"), ("Authorization", "a"),
            ("X_Request_ID", "a"), ("Origin", "http://a"), ("Connection", "a,"),
        ]
    ),
    get("Last-Event-ID of 60 kB", "/topics/a.t0/events?poll=0", Last_Event_ID=long("1")),
    *(
        post(f"{path}: Content-Type of {unit!r}", path, f'{kind}; a="' + long(unit), b"x")
        for path, kind in [
            ("/files", TEXT_PLAIN), ("/files", "multipart/form-data"), (INGEST, CSV),
            ("/topics/a.t0/events", JSON), ("/transform/upper", TEXT_PLAIN),
        ]
        for unit in [";", "\\"]
    ),
    file("Content_Disposition", 'attachment; a="' + long(";")),
    file("Content_Digest", long("sha-256=:YQ==:,")),
    file("Prefer", long("a;b,")),
    file("Upload_Complete", "?1;" + long("a;")),
]  # fmt: skip

WRITES = [
    post("publish 60 kB", "/topics/new/events", TEXT_PLAIN, b"x" * 60_000),
    post("publish nested JSON", "/topics/new/events", JSON, DEEP[:30_000] + DEEP[-30_000:]),
    post("publish a long number", "/topics/new/events", JSON, b"9" * 60_000),
    post("publish with a key", "/topics/new/events", TEXT_PLAIN, b"x", Idempotency_Key="k" * 255),
    post("ingest empty lines", INGEST, JSONL, b"\n" * 90_000),
    post("ingest empty objects", INGEST, JSONL, b"{}\n" * 30_000),
    post("ingest nested JSON", INGEST, JSONL, DEEP),
    post("ingest empty CSV", INGEST, CSV, b"sensor,value\n" + b"\n" * 90_000),
    post("ingest CSV of commas", INGEST, CSV, b"sensor,value\n" + b",\n" * 45_000),
    post("ingest CSV of quotes", INGEST, CSV, b'sensor,value\n"' + b'""' * 45_000),
    post("ingest CSV of columns", INGEST, CSV, b"a," * 45_000 + b"\n"),
    post("ingest gzip", INGEST, JSONL, BOMB, Content_Encoding="gzip"),
    post("form of files", "/files", FORM, form(SMALL, 50)),
    post("form of header lines", "/files", FORM, form(LINES, 100)),
    post("form of empty parts", "/files", FORM, form(LEFT_EMPTY, 150)),
    post("form of nameless parts", "/files", FORM, form(b"\r\n\r\n", 10_000)),
    post("form of parameters", "/files", FORM, form(PARAMETERS, 5)),
    post("transform gzip", "/transform/gzip", BINARY, b"x" * 90_000),
    post("transform upper", "/transform/upper", TEXT_PLAIN, "ß".encode() * 45_000),
    tus("tus creation, metadata", Upload_Length="1", Upload_Metadata=METADATA),
    tus("tus creation of 9 GiB", Upload_Length=str(9 << 30)),
    Single("tus concatenation", concatenation),
    Single("tus PATCH", append),
    post("run of 150 events", "/runs/counter", JSON, b'{"count": 150, "interval": 0}'),
]  # fmt: skip

REQUESTS = [*READS, *HEADERS, *WRITES]
