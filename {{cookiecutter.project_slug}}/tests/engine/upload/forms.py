"""Bodies of `multipart/form-data`."""

BOUNDARY = b"----boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY.decode()}"


def field(name: str, value: str, *header: str) -> bytes:
    return _part(f'form-data; name="{name}"', value.encode(), *header)


def file(filename: str, data: bytes, *header: str) -> bytes:
    return _part(f'form-data; name="file"; filename="{filename}"', data, *header)


def form(*parts: bytes) -> bytes:
    return b"".join([*parts, b"--", BOUNDARY, b"--\r\n"])


def form_head(length: int, *headers: str) -> bytes:
    lines = ["POST /files HTTP/1.1", "Host: x", f"Content-Length: {length}"]
    return "\r\n".join([*lines, f"Content-Type: {FORM}", *headers, "", ""]).encode()


def _part(disposition: str, data: bytes, *header: str) -> bytes:
    lines = [f"Content-Disposition: {disposition}", *header, "", ""]
    return b"".join([b"--", BOUNDARY, b"\r\n", "\r\n".join(lines).encode(), data, b"\r\n"])
