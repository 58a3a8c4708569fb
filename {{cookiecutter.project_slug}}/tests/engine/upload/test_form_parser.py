"""The parser of forms: chunk boundaries do not matter, and names are decoded correctly."""

import random
from itertools import pairwise

import pytest

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.upload.multipart import (
    FormParser,
    Part,
    part_of,
)

from .forms import BOUNDARY, FORM, field, file, form
from .test_hostile_forms import KEPT, MENDED

#: Data that a parser could mistake for a boundary, or for the beginning of one.
DECEPTIVE = [
    b"",
    b"\r\n",
    b"\r\n" * 20,
    b"\r" * 20,
    b"\n--" + BOUNDARY + b"--\r\n",
    b"--" + BOUNDARY + b"x",
    b"\r\n--",
    b"\r\n--" + BOUNDARY[:-1],
    b"\r\n--" + BOUNDARY[:-1] + b"\r\n--" + BOUNDARY[:-1],
    b"\r\n--" + BOUNDARY + b"x\r\n--" + BOUNDARY + b"-x",
    b"\r\n--" + BOUNDARY + b"\rx",
    b"\r\n--" + BOUNDARY + b"-\r",
    b"\r\r\n\r\n-",
]

#: Sent by a form with two checkboxes, a text, a file and an empty file input.
CHROMIUM = b"""\
------WebKitFormBoundary8vQbpm0bY6NxhZ3o
Content-Disposition: form-data; name="c"

1
------WebKitFormBoundary8vQbpm0bY6NxhZ3o
Content-Disposition: form-data; name="c"

2
------WebKitFormBoundary8vQbpm0bY6NxhZ3o
Content-Disposition: form-data; name="%22t%22"


------WebKitFormBoundary8vQbpm0bY6NxhZ3o
Content-Disposition: form-data; name="f"; filename="\xc3\xa4 %22b%22.png"
Content-Type: image/png

\x89PNG
------WebKitFormBoundary8vQbpm0bY6NxhZ3o
Content-Disposition: form-data; name="e"; filename=""
Content-Type: application/octet-stream


------WebKitFormBoundary8vQbpm0bY6NxhZ3o--
""".replace(b"\n", b"\r\n")
BROWSERS = {
    "Chromium": b"----WebKitFormBoundary8vQbpm0bY6NxhZ3o",
    "Firefox": b"----geckoformboundary5a7b0d3c9e6f41d28b0c7e5f9a3d1c64",
    "Firefox before 2024": b"---------------------------9051914041544843365972754266",
}

Read = list[tuple[Part, bytes]]


def read(chunks: list[bytes], content_type: str = FORM) -> Read:
    """Return the parts of a form with their data."""
    parser = FormParser(content_type)
    parts: Read = []
    for event in (event for chunk in chunks for event in parser.feed(chunk)):
        if isinstance(event, bytes):
            parts.append((part_of(event), b""))
        else:
            part, data = parts.pop()
            parts.append((part, data + event))
    parser.finish()
    return parts


def cut(data: bytes, *positions: int) -> list[bytes]:
    return [data[start:end] for start, end in pairwise([0, *positions, len(data)])]


def outcome(chunks: list[bytes]) -> Read | int:
    """Return the parts of a form, or the status of its refusal."""
    try:
        return read(chunks, "multipart/form-data; boundary=b")
    except Problem as problem:
        return problem.status_code


def disposition(parameters: str) -> Part:
    """Return the part with this header."""
    header = f"Content-Disposition: form-data{parameters}\r\n\r\n".encode()
    [(part, _)] = read([b"--" + BOUNDARY + b"\r\n" + header + b"\r\n--" + BOUNDARY + b"--"])
    return part


@pytest.mark.parametrize("data", DECEPTIVE)
def test_a_form_is_the_same_wherever_its_chunks_end(data: bytes) -> None:
    body = form(field("k", "v"), file("a", data), file("b", b"x" + data), field("l", ""))
    expected = [
        (Part("k", None, ""), b"v"),
        (Part("file", "a", ""), data),
        (Part("file", "b", ""), b"x" + data),
        (Part("l", None, ""), b""),
    ]

    assert read([body]) == expected
    assert read(cut(body, *range(1, len(body)))) == expected
    for position in range(len(body)):
        assert read(cut(body, position)) == expected


@pytest.mark.parametrize("hostile", [*MENDED, *KEPT])
def test_a_hostile_form_is_the_same_wherever_its_chunks_end(hostile: str) -> None:
    body, _ = (MENDED | KEPT)[hostile]
    positions = range(1, min(len(body), 1000))
    outcomes = [outcome([body]), outcome(cut(body, *positions))]
    outcomes += [outcome(cut(body, position)) for position in positions]

    assert outcomes == [outcomes[0]] * len(outcomes)


def test_random_chunks_of_deceptive_bytes_are_put_together_again() -> None:
    choice = random.Random(7578)
    for _ in range(200):
        datas = [b"x".join(choice.choices(DECEPTIVE, k=4)) for _ in range(3)]
        body = form(*[file(f"{number}", data) for number, data in enumerate(datas)])
        positions = sorted(choice.sample(range(len(body)), k=5))

        assert [data for _, data in read(cut(body, *positions))] == datas


def test_a_form_cut_short_anywhere_is_not_whole() -> None:
    body = form(field("k", "v"), file("a", b"data"))
    end = len(body) - len(b"\r\n")
    for position in range(end):
        with pytest.raises(Problem, match="malformed"):
            read([body[:position]])
    assert read([body[:end]]) == read([body])


@pytest.mark.parametrize("boundary", BROWSERS.values(), ids=BROWSERS)
def test_the_forms_of_browsers_are_understood(boundary: bytes) -> None:
    body = CHROMIUM.replace(BROWSERS["Chromium"], boundary)

    assert read([body], f"multipart/form-data; boundary={boundary.decode()}") == [
        (Part("c", None, ""), b"1"),
        (Part("c", None, ""), b"2"),
        (Part('"t"', None, ""), b""),
        (Part("f", 'ä "b".png', "image/png"), b"\x89PNG"),
        (Part("e", "", "application/octet-stream"), b""),
    ]


@pytest.mark.parametrize("boundary", ["x", "x" * 70, "'()+_,-./:=?", "a b", "--", "----WebKit7MA"])
def test_every_boundary_of_rfc_2046_is_understood(boundary: str) -> None:
    body = form(file("a", b"data\r\n--")).replace(BOUNDARY, boundary.encode())

    quoted = read([body], f'multipart/form-data; charset=utf-8; boundary="{boundary}"')
    assert [data for _, data in quoted] == [b"data\r\n--"]
    if " " not in boundary:
        assert read([body], f"Multipart/Form-Data; Boundary={boundary}; x=y") == quoted


@pytest.mark.parametrize(
    ("parameters", "name", "filename"),
    [
        ('; name="f"', "f", None),
        ("; name=f; filename=a.txt", "f", "a.txt"),
        (';name="f";filename="a;b=c.txt"', "f", "a;b=c.txt"),
        (' ; FileName = "a" ; NAME = "f" ;', "f", "a"),
        ('; name="f"; filename=""', "f", ""),
        ('; name="f"; filename="Märchen 日本.txt"', "f", "Märchen 日本.txt"),
        ('; name="%22f%22"; filename="%22a%0D%0A%22 100%25.txt"', '"f"', '"a\r\n" 100%25.txt'),
        ('; name="f"; filename="a\\"b\\\\c"', "f", 'a"b\\c'),
        ('; name="f"; filename="C:\\temp\\new.txt"', "f", "C:\\temp\\new.txt"),
        ('; name="f"; filename="a\\"', "f", "a\\"),
        ('; name="f"; filename*=UTF-8\'\'M%C3%A4rchen; filename="x"', "f", "Märchen"),
        ("; name=\"f\"; filename*=iso-8859-1'de'M%E4rchen", "f", "Märchen"),
        ('; name="f"; filename*=UTF-8\'\'%FF; filename="x"', "f", "x"),
        ("; name=f g; filename=a b.txt ;", "f g", "a b.txt"),
    ],
)
def test_the_names_of_a_part_are_as_its_client_meant_them(
    parameters: str, name: str, filename: str | None
) -> None:
    part = disposition(parameters)

    assert (part.name, part.filename) == (name, filename)


def test_a_name_that_is_not_utf_8_is_latin_1() -> None:
    body = form(file("M|rchen", b"x")).replace(b"|", b"\xe4")

    assert read([body])[0][0].filename == "Märchen"


def test_space_behind_a_boundary_and_words_behind_the_form_mean_nothing() -> None:
    body = form(file("a", b"x"), file("b", b"y")).replace(b"x\r\n", b"x\r\n|")
    body = body.replace(b"|--" + BOUNDARY, b"--" + BOUNDARY + b" \t")

    assert [data for _, data in read([b"\r\n" + body + b"epilogue"])] == [b"x", b"y"]


@pytest.mark.parametrize(
    "broken",
    [
        form(file("a", b"x"))[1:],
        form(file("a", b"x")).replace(b"\r\n\r\n", b"\r\n"),
        form(file("a", b"x")).replace(b"form-data; name", b"attachment; name"),
        form(file("a", b"x")).replace(b"name=", b"x="),
        form(file("a", b"x", "no header")),
        form(file("a", b"x", *["X: y"] * 32)),
        form(file("a", b"x", *[f"X: {'y' * 4000}"] * 5)),
        form(file("a", b"x", f"X: {'y' * 17000}")),
        form(file("a", b"x", " folded: line")),
        b"a preamble" + form(file("a", b"x")),
    ],
)
def test_a_form_that_breaks_the_rules_is_refused(broken: bytes) -> None:
    for chunks in ([broken], cut(broken, *range(1, len(broken)))):
        with pytest.raises(Problem, match="malformed"):
            read(chunks)


def test_what_surrounds_the_parts_may_not_go_on_for_ever() -> None:
    body, lines = form(file("a", b"x")), [b"\r\n" * 1000] * 33

    assert read([*lines[:16], body, *lines[:16]]) == read([body])
    for chunks in ([*lines, body], [body, *lines]):
        with pytest.raises(Problem, match="malformed"):
            read(chunks)


@pytest.mark.parametrize(
    "boundary", ["", "x" * 71, "x\u00e4", "ends with a space ", "a;b", "{}", "a\\", '"']
)
def test_a_boundary_that_rfc_2046_does_not_know_is_refused(boundary: str) -> None:
    for content_type in (f'multipart/form-data; boundary="{boundary}"', "multipart/form-data"):
        with pytest.raises(Problem, match="malformed"):
            FormParser(content_type)


@pytest.mark.parametrize(
    "parameters",
    [
        *['; x="', "; =", '; name="f"x', "; filename*=", ";;", '; "', "; name=f filename=a"],
        *['; name="f"; name="g"', '; name="f"; filename=a; FILENAME=a'],
        *["; name=f; filename*=utf-16''%FF", "; name=f; filename*0=a; filename*2=b"],
    ],
)
def test_parameters_that_break_the_rules_are_refused(parameters: str) -> None:
    with pytest.raises(Problem, match="malformed"):
        disposition(parameters)


def test_the_time_for_a_hostile_header_is_not_quadratic() -> None:
    # With quadratic time these would take minutes.
    for parameters in ('; a="' * 3000, "; a=\\" * 3000, ';a="' + "\\" * 15_000, "; " * 8000):
        with pytest.raises(Problem, match="malformed"):
            disposition(parameters)
