"""Structured fields: the grammar of RFC 9651."""

import pytest

from {{cookiecutter.package_name}}.engine.streams.structured import (
    Item,
    decode_base64,
    parse_dictionary,
    parse_item,
)

G22 = pytest.mark.fault("G22")


@G22
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("?1", True),
        (" ?0;a=1.5; b;c=?1 ", False),
        ('?1;a="x, \\"?0";b=%"%c3%a4, ";c=@-1;*d.e=a/b:c', True),
        ("-15", -15),
        ("007", 7),
        (":YWJj:", b"abc"),
        (":YQ:", b"a"),
        (":YQ==:", b"a"),
        (":YR==:", b"a"),
        ("::", b""),
        ("1.5", "1.5"),
        ('"1"', '"1"'),
        ("", None),
        ("?2", None),
        ("?1 ;a", None),
        ("?1;", None),
        ("?1;A", None),
        ("?1, ?1", None),
        ("1234567890123456", None),
        ("1.2345", None),
        (":A:", None),
        (":Y=Q:", None),
        (":YQ-_:", None),
        ('"a', None),
        ('"\\a"', None),
        ("(1)", None),
        ("\u0661", None),
    ],
)
def test_an_item_is_parsed(field: str, value: Item | None) -> None:
    found = parse_item(field)
    assert (found, type(found)) == (value, type(value))


@G22
@pytest.mark.parametrize(
    ("field", "members"),
    [
        ("", {}),
        ("a", {"a": True}),
        ("a;b=1,c=2", {"a": True, "c": 2}),
        (" a=1 \t,\t b=:YQ: ", {"a": 1, "b": b"a"}),
        ("a=1, b=2, a=3", {"a": 3, "b": 2}),
        ('a=1;x="c, a=2;", b=2', {"a": 1, "b": 2}),
        ("a=(1 2;x  :YQ: );y, b=()", {"a": "(1 2;x  :YQ: )", "b": "()"}),
        ("*a-._=1", {"*a-._": 1}),
    ],
)
def test_a_dictionary_is_parsed(field: str, members: dict[str, Item]) -> None:
    assert parse_dictionary(field) == members


@G22
@pytest.mark.parametrize(
    "field",
    [",", "a=1,", "a=1,,b=2", "a=1 b=2", "A=1", "a=", "a =1", "a= 1", "a=(1", "a=1;B", "a=:A:"],
)
def test_a_malformed_dictionary_is_none(field: str) -> None:
    with pytest.raises(ValueError, match=r"not a dictionary|base64"):
        parse_dictionary(field)


@pytest.mark.parametrize("text", ["", "YQ", "YQ=", "YQ==", "YWI", "YWI=", "YWJj"])
def test_base64_is_decoded_with_and_without_padding(text: str) -> None:
    assert decode_base64(text) == b"abc"[: len(text.rstrip("=")) * 3 // 4]
