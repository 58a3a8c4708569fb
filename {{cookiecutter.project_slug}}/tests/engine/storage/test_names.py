"""File names: safe on every system, whatever clients send."""

import time
import unicodedata

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from {{cookiecutter.package_name}}.engine.storage.records import clean_filename

from ..service import SOAK

#: Bytes of a name on most file systems.
MAX_BYTES = 255
DEVICES = ["CON", "prn", "Aux", "nul", "COM1", "com¹", "LPT9", "lpt³", "CONIN$", "conout$"]
#: Characters in which rules of names meet: joined, removed, stripped and cut.
PIECES = [
    *DEVICES, *"aé. \t\n\0:/\\$", "\u200b", "\u200d", "\u2060", "\ufeff", "\u202e", "\u00a0",
    "\u3000", "e\u0301", "\u0301", "\u0338", "\u212b", "\uac00", "\u1100", "\u1161", "日" * 84,
    ".txt", ".tar.gz", "\ud800",
]  # fmt: skip
NAMES = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join),
    st.text(st.characters(), max_size=300),
)


@pytest.mark.fault("G25")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nul .txt", "_nul .txt"),
        ("NUL  . txt", "_NUL  . txt"),
        ("con:stream", "_con:stream"),
        ("CONIN$", "_CONIN$"),
        ("conout$.log", "_conout$.log"),
        ("COM¹", "_COM¹"),
        ("lpt³.txt", "_lpt³.txt"),
        ("n\u200bul.txt", "_nul.txt"),
        ("null.txt", "null.txt"),
        ("com10.txt", "com10.txt"),
        ("e\u200b\u0301.txt", "é.txt"),
        (". .hidden", "hidden"),
        (".\u3000. name", "name"),
        ("a" * 254 + ". b c d", "a" * 248 + ". b c d"),
        ("a" * 250 + " " * 10 + "b", "a" * 250),
    ],
)
def test_a_name_is_safe_on_windows_and_composed(name: str, expected: str) -> None:
    assert clean_filename(name) == expected


@pytest.mark.parametrize("unit", [" ", ".", " .", "\u200b", "\u0301", "\u0301\u0316", "nul ", "\\"])
def test_a_long_name_is_cleaned_in_linear_time(unit: str) -> None:
    began = time.process_time()
    clean_filename("a" + unit * 60_000 + "b")
    assert time.process_time() - began < 0.1


@pytest.mark.fault("G25")
@settings(max_examples=500 * SOAK, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(NAMES)
@example("a" * 250 + " . " + "b" * 40)
@example("\u0338" * 200)
def test_a_cleaned_name_is_short_composed_and_clean_already(name: str) -> None:
    cleaned = clean_filename(name)

    assert cleaned == clean_filename(cleaned)
    assert cleaned == unicodedata.normalize("NFC", cleaned)
    assert 0 < len(cleaned.encode()) <= MAX_BYTES
    assert not set("/\\\0\u200b\u202e\ufeff").intersection(cleaned)
    assert cleaned[0] not in ". \u00a0\u3000"
    assert cleaned[-1] not in ". \u00a0\u3000"
    stem = cleaned.partition(".")[0].partition(":")[0].rstrip()
    assert stem.casefold() not in {device.casefold() for device in DEVICES}
