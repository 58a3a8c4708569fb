"""Every trap, fault and bound has a test, and the pages list all of them."""

import pytest

from rows import TABLES, Table

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
