"""Every trap, fault and bound has a test, and the pages list all of them."""

import pytest

from rows import PLAIN, TABLES, TRAPS, Table

tables = pytest.mark.parametrize("table", TABLES, ids=[table.page.stem for table in TABLES])


@tables
def test_every_row_has_a_test(table: Table) -> None:
    marked = table.marked()

    assert [row for row in table.rows if row not in marked] == []


@tables
def test_no_test_names_a_row_that_is_not_there(table: Table) -> None:
    assert set(table.marked()) - set(table.rows) == set()


@tables
def test_the_page_is_up_to_date(table: Table) -> None:
    assert table.page.read_text("utf-8") == table.text(), "python tests/rows.py writes it anew"


def test_what_becomes_of_traps_in_plain_code_is_told_and_shown() -> None:
    """A row with tests that plain code fails needs tests of plain code itself, or a reason."""
    entries = {row: TRAPS.entries[row] for row in TRAPS.rows}
    marked, shown = TRAPS.marked(), TRAPS.marked("plain")
    assert {entry["plain"] for entry in entries.values()} == PLAIN.keys()
    for row, entry in entries.items():
        names = {test.partition("::")[2] for test in marked[row]}
        beyond = set(entry.get("beyond", "").split())
        assert beyond <= names, row
        assert "why" in entry or not (entry["plain"] == "class" or beyond), row
        assert entry["plain"] == "gone" or not (beyond or row in shown), row
        assert not beyond or row in shown or names - beyond, row
