"""Rows: chunk boundaries do not matter, and CSV is read as the csv module reads it."""

import csv
import io
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import TypeAdapter

from {{cookiecutter.package_name}}.engine.kernel import Problem
from {{cookiecutter.package_name}}.engine.upload.rows import CsvRows, JsonRows

from ..service import SOAK
from .csv_files import FILES

ADAPTER: TypeAdapter[Any] = TypeAdapter(dict[str, str])


def read(kind: Any, *chunks: bytes) -> Any:
    """Return rows and errors by their lines, or the problem that refuses the body."""
    rows, found = kind(ADAPTER), {}
    try:
        batches = [batch for chunk in chunks for batch in rows.feed(chunk)]
        for line, content in [record for batch in [*batches, *rows.end()] for record in batch]:
            assert line not in found
            try:
                found[line] = rows.parse(content)
            except ValueError as error:
                found[line] = str(error)
    except Problem as problem:
        return problem.status_code, problem.detail
    return found


JSON_LINES = b'\xef\xbb\xbf{"a":"\xc3\xa9"}\r\n\n \r\n{"a":"\\""}\r{\n{"a":"c"}'


@pytest.mark.parametrize(
    ("kind", "body"),
    [(JsonRows, JSON_LINES), *((CsvRows, file.body) for file in FILES if len(file.body) < 600)],
)
def test_a_body_means_the_same_however_it_is_cut(kind: Any, body: bytes) -> None:
    whole = read(kind, body)

    assert all(read(kind, body[:cut], body[cut:]) == whole for cut in range(len(body)))
    assert read(kind, *(body[at : at + 1] for at in range(len(body)))) == whole


@pytest.mark.parametrize("file", [file for file in FILES if len(file.body) >= 600])
@pytest.mark.slow
def test_a_large_file_means_the_same_however_it_is_cut(file: Any) -> None:
    whole = read(CsvRows, file.body)
    for size in (1, 7, 4093, 65_537):
        parts = (file.body[at : at + size] for at in range(0, len(file.body), size))
        assert read(CsvRows, *parts) == whole


def test_whatever_is_sent_no_row_is_made_up_and_none_is_lost() -> None:
    letters, choice = '""",,,\n\n\nabé', random.Random(3)
    for number in range(2000 * SOAK):
        alphabet = letters + "\r" * (number % 2)
        text = "x,y\n" + "".join(choice.choices(alphabet, k=choice.randrange(40)))
        body = text.encode()
        found = read(CsvRows, body)
        cut = choice.randrange(len(body))
        assert read(CsvRows, body[:cut], body[cut:]) == found, text

        rows = [list(row.values()) if isinstance(row, dict) else None for row in found.values()]
        wanted = [values for values in csv.reader(io.StringIO(text, newline="")) if values][1:]
        if "\r" not in text.replace("\r\n", "\n"):
            # The csv module splits at a lone carriage return; the service rejects the row.
            assert len(rows) == len(wanted), text
            pairs = zip(rows, wanted, strict=True)
            assert all(row in (None, values) for row, values in pairs), text
        rest = iter(wanted)
        assert all(row in rest for row in rows if row), text


def test_each_byte_of_a_long_field_is_looked_at_a_few_times_only() -> None:
    class Counting(CsvRows):
        looked_at = 0

        def _goes_on(self, size: int) -> bool:
            self.looked_at += size - self._quoted
            return super()._goes_on(size)

    rows = Counting(ADAPTER)
    line = b"x,\n"
    list(rows.feed(b'a\n"'))
    for _ in range(10_000):
        assert list(rows.feed(line)) == []
    assert rows.looked_at <= 10_000 * len(line)
    assert len(list(rows.feed(b'"\n'))) == 1


def test_a_field_may_be_as_long_as_a_row_and_the_csv_module_keeps_its_limit() -> None:
    before = csv.field_size_limit()
    long = b"b" * (2 * before)

    assert read(CsvRows, b'a\n"' + long + b'"\n') == {2: {"a": long.decode()}}
    assert read(CsvRows, b'a\n"' + long) == read(CsvRows, b'a\n"', long)
    assert read(CsvRows, b"a\n" + b"b" * (2 << 20))[0] == 413
    assert csv.field_size_limit() == before


def test_the_limit_of_the_csv_module_is_never_that_of_another_thread() -> None:
    before = csv.field_size_limit()
    body = b"a\n" + (b"b" * (before + 1) + b"\n") * 20
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: read(CsvRows, body), range(8)))

    assert all(len(rows) == 20 for rows in found)
    assert csv.field_size_limit() == before
