"""Forms at the edges of RFC 2046: each is stored as its sender meant it, or refused.

The expectations follow RFC 2046, section 5.1.1, and RFC 7578, not any parser. Bytes of one part
never become those of another, and no part is lost when the status is 201.
"""

from typing import Any

import pytest

from ..service import Service
from .hostile import Outcome, field, file, form, outcome_of, rows, stored

X, Y = ("x", b"X"), ("y", b"Y")
FIRST, SECOND = "--b\n" + file("x") + "X\n", "--b\n" + file("y") + "Y\n"
END = "--b--\n"
LONG = "p" * (65 << 10)

#: Forms that an earlier version lost, mixed up, or refused although they are valid.
MENDED: dict[str, tuple[bytes, Outcome]] = {
    # The line break before a boundary belongs to it, and may also end the empty line.
    "a file without a body, and another behind it": (
        form("--b\n", file("empty"), SECOND, END),
        stored(("empty", b""), Y),
    ),
    "a file without a body behind another one": (
        form(FIRST, "--b\n", file("empty"), END),
        stored(X, ("empty", b"")),
    ),
    "three files without bodies": (
        form("--b\n", file("1"), "--b\n", file("2"), "--b\n", file("3"), END),
        stored(("1", b""), ("2", b""), ("3", b"")),
    ),
    "a field without a body": (form("--b\n", field("k"), FIRST, END), stored(X, k="")),
    "a file input left empty, without a body": (
        form("--b\n", file(""), SECOND, END),
        stored(Y),
    ),
    "a part without a body, with padding behind its boundary": (
        form("--b\n", file("empty"), "--b \t\n", file("y"), "Y\n", END),
        stored(("empty", b""), Y),
    ),
    "a bare line feed behind a boundary": (form(FIRST, "--b|", file("y"), "Y\n", END), 400),
    "padding behind the first boundary": (
        form("--b \t \n", file("x"), "X\n", SECOND, END),
        stored(X, Y),
    ),
    "a preamble": (form("This is a form\n of two parts.\n", FIRST, SECOND, END), stored(X, Y)),
    "a preamble with an empty line and hyphens": (form("\n--\n--c\n\n", FIRST, END), stored(X)),
    "a part behind the last boundary": (form(FIRST, END, SECOND, END), 400),
    "a last boundary within a file": (form(FIRST, END, "Y\n", END), 400),
    "a part behind the last boundary, with another boundary": (
        form(FIRST, END, "--c\n", file("y"), "Y\n--c--\n"),
        400,
    ),
    "folded lines of a header": (
        form(
            '--b\nContent-Disposition: form-data;\n name="f";\n\tfilename="x"\n\nX\n',
            END,
        ),
        stored(X),
    ),
    "two names for one part": (
        form("--b\n", file("y", 'Content-Disposition: form-data; name="f"'), "Y\n", END),
        400,
    ),
    "two types for one part": (
        form("--b\n", file("x", "Content-Type: text/css", "Content-Type: image/png"), "X\n", END),
        400,
    ),
    "a part that is compressed": (
        form("--b\n", file("x", "Content-Encoding: gzip"), "X\n", END),
        415,
    ),
}

KEPT: dict[str, tuple[bytes, Outcome]] = {
    "an empty body, and another file": (
        form("--b\n", file("empty"), "\n", SECOND, END),
        stored(("empty", b""), Y),
    ),
    "a body of one line break": (
        form("--b\n", file("a"), "\n\n", SECOND, END),
        stored(("a", b"\r\n"), Y),
    ),
    "bodies of hyphens": (
        form("--b\n", file("1"), "--\n--b\n", file("2"), "-\n--\n", END),
        stored(("1", b"--"), ("2", b"-\r\n--")),
    ),
    "a line that only begins as the boundary does": (
        form("--b\n", file("a"), "--bb\n--b-\n--b-x\n-b\n", SECOND, END),
        stored(("a", b"--bb\r\n--b-\r\n--b-x\r\n-b"), Y),
    ),
    "boundaries behind bare line feeds, which are none": (
        form("--b\n", file("a"), "1|--b--\n2|--b|3\n", SECOND, END),
        stored(("a", b"1\n--b--\r\n2\n--b\n3"), Y),
    ),
    "carriage returns before and behind a boundary": (
        form("--b\n", file("a"), b"\r\r", "\n", "--b", b"\rx\r", "\n", SECOND, END),
        stored(("a", b"\r\r\r\n--b\rx\r"), Y),
    ),
    "padding behind later boundaries": (
        form(FIRST, "--b\t \n", file("y"), "Y\n--b-- \t\n"),
        stored(X, Y),
    ),
    "no line break behind the last boundary": (form(FIRST, "--b--"), stored(X)),
    "an epilogue": (form(FIRST, END, "\nThe end.\n--\n--c\n"), stored(X)),
    "a zero behind the last boundary": (form(FIRST, "--b--", b"\0"), stored(X)),
    "a part of its own type within another": (
        form(
            "--b\n",
            file("x", "Content-Type: multipart/mixed; boundary=bb"),
            "--bb\n\nY\n--bb--\n",
            END,
        ),
        stored(("x", b"--bb\r\n\r\nY\r\n--bb--")),
    ),
    "text behind the padding of a boundary": (form(FIRST, "--b x\n", file("y"), "Y\n", END), 400),
    "text behind the padding of the first one": (form("--b x\n", file("x"), "X\n", END), 400),
    "a first boundary within a line": (form("x--b\n", file("x"), "X\n", SECOND, END), 400),
    "a first boundary behind a bare line feed": (form("p|", FIRST, SECOND, END), 400),
    "a first boundary that is another one": (form("--c\n", file("x"), "X\n", SECOND, END), 400),
    "a preamble without an end": (form(LONG), 400),
    "a preamble that is too long": (form(LONG, "\n", FIRST, END), 400),
    "bare line feeds everywhere": (form(FIRST, SECOND, END).replace(b"\r\n", b"\n"), 400),
    "bare line feeds in a header": (form("--b\n", file("x").replace("\n", "|"), "X\n", END), 400),
    "no last boundary": (form(FIRST, SECOND), 400),
    "half of a last boundary": (form(FIRST, "--b-"), 400),
    "a last boundary without its line break": (form(FIRST[:-1], END), 400),
    "nothing": (b"", 400),
    "a last boundary alone": (form(END), 422),
    "fields alone": (form("--b\n", field("k"), "v\n", END), 422),
    "a part without a header": (form("--b\n\nX\n", END), 400),
    "a part without anything": (form(FIRST, "--b\n\n", END), 400),
    "a part without a name": (form("--b\nContent-Type: text/plain\n\nX\n", END), 400),
    "a header without an end": (form("--b\n", file("x")[:-1], SECOND, END), 400),
    "a header with the last boundary": (form(FIRST, "--b\n", file("y")[:-1], END), 400),
    "a header that begins with a folded line": (form("--b\n ", file("x"), "X\n", END), 400),
    "a header line without a colon": (form("--b\n", file("x", "no colon"), "X\n", END), 400),
    "a space before a colon": (form("--b\n", file("x", "X : y"), "X\n", END), 400),
    "a part that contains parts": (
        form("--b\n", field("f", "Content-Type: multipart/mixed; boundary=c"), "\n", END),
        415,
    ),
    "base64": (form("--b\n", file("x", "Content-Transfer-Encoding: base64"), "WA==\n", END), 415),
    "8bit": (form("--b\n", file("x", "Content-Transfer-Encoding: 8BIT"), "X\n", END), stored(X)),
}

BOUNDARIES: dict[str, Outcome] = {
    "boundary=b": stored(X),
    'boundary="b"; charset=utf-8': stored(X),
    "BOUNDARY = b ;": stored(X),
    'boundary=""': 400,
    "boundary=": 400,
    'boundary="b "': 400,
    'boundary="c"': 400,
    "charset=utf-8": 400,
}


@pytest.mark.parametrize(
    ("body", "expected"), [*rows(MENDED, pytest.mark.fault("F2")), *rows(KEPT)]
)
async def test_a_form_becomes_what_its_sender_meant_or_nothing(
    service: Service, serve: Any, tmp_path: Any, body: bytes, expected: Outcome
) -> None:
    content_type = "multipart/form-data; boundary=b"

    assert await outcome_of(service, body, content_type) == expected
    if not isinstance(expected, int):  # A refusal may arrive before the form is sent completely.
        other: Service = await serve(storage={"url": f"file:{tmp_path / 'bytewise'}"})
        assert await outcome_of(other, body, content_type, bytewise=True) == expected


@pytest.mark.parametrize(("parameters", "expected"), BOUNDARIES.items())
async def test_the_boundary_is_the_one_that_is_said(
    service: Service, parameters: str, expected: Outcome
) -> None:
    content_type = f"multipart/form-data; {parameters}"

    assert await outcome_of(service, form(FIRST, END), content_type) == expected


@pytest.mark.fault("F2")
@pytest.mark.parametrize("boundary", ["*****", "&&b&&", "#!$%^`{|}~"[:5], "a*b c"])
@pytest.mark.parametrize("said", ["boundary={}", 'boundary="{}"'])
async def test_the_boundaries_of_old_clients_are_understood(
    service: Service, boundary: str, said: str
) -> None:
    body = form(FIRST, SECOND, END).replace(b"--b", f"--{boundary}".encode())
    content_type = f"multipart/form-data; {said.format(boundary)}"

    assert await outcome_of(service, body, content_type) == stored(X, Y)


@pytest.mark.fault("F2")
async def test_two_boundaries_are_none(service: Service) -> None:
    content_type = "multipart/form-data; boundary=b; boundary=c"

    assert await outcome_of(service, form(FIRST, END), content_type) == 400
