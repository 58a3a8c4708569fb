"""Every trap has a test, and the page of the traps names them all."""

from traps import PAGE, ROWS, marked, page


def test_every_trap_has_a_test() -> None:
    assert [row for row in ROWS if row not in marked()] == []


def test_no_test_names_a_trap_that_is_not_there() -> None:
    assert set(marked()) - set(ROWS) == set()


def test_the_page_is_what_the_marks_say_now() -> None:
    assert PAGE.read_text("utf-8") == page(), "python tests/traps.py writes it anew"
