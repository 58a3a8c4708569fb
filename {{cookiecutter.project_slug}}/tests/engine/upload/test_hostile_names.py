"""Names and charsets in forms: decoded as the client means them, or refused."""

import pytest

from ..service import Service
from ..storage.stored import files
from .hostile import Outcome, field, file, form, outcome_of, rows, stored

FORM = "multipart/form-data; boundary=b"
X, END = ("x", b"X"), "X\n--b--\n"
FILE = "--b\n" + file("x") + END
KANA, CYRILLIC = "テスト", "Привет"


def named(parameters: str) -> bytes:
    """Return a form of one part with these parameters, and a file."""
    return form(f"--b\nContent-Disposition: form-data{parameters}\n\nX\n", FILE)


def said(value: bytes, content_type: str) -> bytes:
    """Return a form of a field with a media type, and a file."""
    return form("--b\n", field("k", f"Content-Type: {content_type}"), value, "\n", FILE)


def part(parameter: str, value: bytes) -> list[str | bytes]:
    """Return a part with a parameter that is not UTF-8."""
    before = f'--b\nContent-Disposition: form-data; name="f"; {parameter}="'
    return [before, value, '"\n\nV\n']


def chosen(charset: str, *texts: str | bytes) -> bytes:
    """Return a form that begins with the field for its charset."""
    return form("--b\n", field("_charset_"), f"{charset}\n", *texts, FILE)


NAMES: dict[str, tuple[bytes, Outcome]] = {
    "a file name in sections": (
        named('; name="f"; filename*0="a long"; filename*1=" name"'),
        stored(("a long name", b"X"), X),
    ),
    "a file name in one section": (named("; name=f; filename*0=a"), stored(("a", b"X"), X)),
    "a file name in encoded sections": (
        named("; name=f; filename*1*=%A4rchen; filename*0*=UTF-8''M%C3; filename*2=.txt"),
        stored(("Märchen.txt", b"X"), X),
    ),
    "sections, and a plain name for others": (
        named('; name="f"; filename="other"; filename*0*=iso-8859-1\'\'M%E4r; filename*1="chen"'),
        stored(("Märchen", b"X"), X),
    ),
    "sections with a gap": (named("; name=f; filename*0=a; filename*2=b"), 400),
    "sections without a first one": (named("; name=f; filename*1=a"), 400),
    "a section twice": (named("; name=f; filename*0=a; filename*0*=UTF-8''b"), 400),
    "an encoded name in sections and whole": (
        named("; name=f; filename*=UTF-8''whole; filename*0=a"),
        400,
    ),
    "an encoded name that is none": (named("; name=f; filename*=UTF-8''%FF"), 400),
    "an encoded name in UTF-7": (named("; name=f; filename*=UTF-7''a"), 400),
    "an encoded name of a field": (
        named("; name*=UTF-8''M%C3%A4rchen"),
        stored(X, Märchen="X"),
    ),
    "a backslash before the quotation mark of a browser": (
        named('; name="dir\\"; filename="a"'),
        stored(("a", b"X"), X),
    ),
    "two names": (named('; name="f"; name="g"'), 400),
    "two file names": (named('; name="f"; filename="a"; filename="b"'), 400),
    "two file names, one in capitals": (named('; name="f"; filename=a; FILENAME=b'), 400),
}

PLAIN: dict[str, tuple[bytes, Outcome]] = {
    "a field whose name ends with a backslash": (
        named('; name="dir\\"'),
        stored(X, **{"dir\\": "X"}),
    ),
    "escapes of browsers": (
        named('; name="%22k%22"; filename="%22a%22 100%25.txt"'),
        stored(('"a" 100%25.txt', b"X"), X),
    ),
    "escapes of other clients": (
        named('; name="f"; filename="a\\"; b=\\"c"'),
        stored(('a"; b="c', b"X"), X),
    ),
    "an encoded name and a plain one": (
        named("; name=f; filename=a; filename*=UTF-8''M%C3%A4rchen"),
        stored(("Märchen", b"X"), X),
    ),
    "an encoded name that is none, and a plain one": (
        named("; name=f; filename=a; filename*=UTF-8''%FF"),
        stored(("a", b"X"), X),
    ),
    "a semicolon that is missing": (named("; name=f filename=a"), 400),
    "a quotation mark that is missing": (named('; name="f; filename=a'), 400),
}

CHARSETS: dict[str, tuple[bytes, Outcome]] = {
    "ISO-8859-1": (said(b"M\xe4r", "text/plain; charset=iso-8859-1"), stored(X, k="Mär")),
    "US-ASCII that is none": (said(b"M\xc3\xa4r", "text/plain; charset=us-ascii"), 400),
    "windows-1251": (
        said(CYRILLIC.encode("cp1251"), 'text/plain; charset="Windows-1251"'),
        stored(X, k=CYRILLIC),
    ),
    "ISO-2022-JP": (
        said(KANA.encode("iso2022_jp"), "text/plain;charset=ISO-2022-JP"),
        stored(X, k=KANA),
    ),
    "Shift_JIS": (said(KANA.encode("cp932"), "text/plain; charset=Shift_JIS"), stored(X, k=KANA)),
    "UTF-16": (said("A".encode("utf-16"), "text/plain; charset=utf-16"), 415),
    "UTF-16LE": (said("AB".encode("utf-16-le"), "text/plain; charset=utf-16le"), 415),
    "UTF-7": (said(b"+AOQ-", "text/plain; charset=utf-7"), 415),
    "a codec of Python's that is no charset": (said(b"k", "text/plain; charset=rot13"), 415),
    "a charset that does not exist": (said(b"k", "text/plain; charset=x-none"), 415),
    "a default": (
        chosen("windows-1251", "--b\n", field("k"), CYRILLIC.encode("cp1251"), "\n"),
        stored(X, _charset_="windows-1251", k=CYRILLIC),
    ),
    "a default behind the field": (
        form("--b\n", field("k"), b"M\xe4r", "\n", "--b\n", field("_charset_"), "latin1\n", FILE),
        stored(X, k="Mär", _charset_="latin1"),
    ),
    "a default for names": (
        chosen("windows-1251", *part("filename", CYRILLIC.encode("cp1251"))),
        stored((CYRILLIC, b"V"), X, _charset_="windows-1251"),
    ),
    "a default that does not exist": (chosen("x-none"), 415),
    "a default behind a name in it": (
        form(*part("filename", b"\xf0"), "--b\n", field("_charset_"), "koi8-r\n", FILE),
        400,
    ),
}
KNOWN: dict[str, tuple[bytes, Outcome]] = {
    "a default, and a charset of its own": (
        chosen("koi8-r", "--b\n", field("k", "Content-Type: text/plain; charset=utf-8"), "ä\n"),
        stored(X, _charset_="koi8-r", k="ä"),
    ),
    "UTF-8": (said("ä".encode(), "text/plain; charset=UTF-8"), stored(X, k="ä")),
    "UTF-8 that is none": (said(b"\xff", "text/plain"), 400),
    "a default that is empty": (chosen(""), stored(X, _charset_="")),
}

MENDED = pytest.mark.fault("F2")


@pytest.mark.parametrize(("body", "expected"), [*rows(NAMES, MENDED), *rows(PLAIN)])
async def test_names_are_those_that_the_client_means(
    service: Service, body: bytes, expected: Outcome
) -> None:
    assert await outcome_of(service, body, FORM) == expected


@pytest.mark.parametrize(("body", "expected"), [*rows(CHARSETS, MENDED), *rows(KNOWN)])
async def test_text_is_read_in_its_charset_or_refused(
    service: Service, body: bytes, expected: Outcome
) -> None:
    assert await outcome_of(service, body, FORM) == expected


@pytest.mark.fault("F2")
@pytest.mark.parametrize("charset", ["utf-16", "x-none"])
async def test_a_charset_that_is_not_known_is_named(service: Service, charset: str) -> None:
    body = said(b"A", f"text/plain; charset={charset}")
    async with service.client() as client:
        response = await client.post("/files", content=body, headers={"Content-Type": FORM})

    assert response.status_code == 415
    assert charset in response.json()["detail"]
    assert "'k'" in response.json()["detail"]


@pytest.mark.parametrize(
    ("header", "filename"),
    [
        ("attachment; filename*0=a; filename*1=b", "ab"),
        ('attachment; filename="a%22b"', "a%22b"),
        ('attachment; filename="a\\"b"', 'a"b'),
        ("attachment; filename=my file.txt", "my file.txt"),
        ('filename="a.txt"', "a.txt"),
        ("attachment; filename*=UTF-8''%FF", "file"),
        ("attachment; " + ';"' * 1_000, "file"),
    ],
    ids=range(7),
)
async def test_the_name_of_a_raw_body_is_read_alike(
    service: Service, header: str, filename: str
) -> None:
    async with service.client() as client:
        await client.post("/files", content=b"x", headers={"Content-Disposition": header})

    assert [record.filename for record in await files(service)] == [filename]
