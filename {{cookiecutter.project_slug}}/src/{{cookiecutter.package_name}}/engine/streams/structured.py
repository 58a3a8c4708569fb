"""Structured fields: items, and dictionaries of items (RFC 9651, sections 3.2, 3.3 and 4.2).

Parameters are checked and ignored, since no field here has any.
"""

import base64
import re

_KEY = r"[a-z*][a-z0-9_.*-]*"
_BARE = (
    r"(?:\?[01]|:[A-Za-z0-9+/=]*:|@-?[0-9]{1,15}|-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}"
    r'|"(?:[ !#-\[\]-~]|\\["\\])*"|%"(?:[ !#$&-~]|%[0-9a-f]{2})*"'
    r"|[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*)"
)
_PARAMETERS = rf"(?:; *{_KEY}(?:={_BARE})?)*"
_INNER = rf"\( *(?:{_BARE}{_PARAMETERS}(?: +{_BARE}{_PARAMETERS})* *)?\)"
_ITEM = re.compile(rf" *({_BARE}){_PARAMETERS} *")
_MEMBER = re.compile(rf"({_KEY})(?:=({_BARE}|{_INNER}))?{_PARAMETERS}[ \t]*(,[ \t]*(?=.)|$)")

#: A string, and whatever is not read here, is the text in the field.
Item = bool | int | bytes | str


def parse_item(field: str) -> Item | None:
    """Return the value of an item; None if it is malformed."""
    match = _ITEM.fullmatch(field)
    try:
        return _value(match[1]) if match else None
    except ValueError:
        return None


def parse_dictionary(field: str) -> dict[str, Item]:
    """Return a dictionary; of a repeated key, the last value. Raises ValueError if malformed.

    `field` has all lines, joined by commas.
    """
    members: dict[str, Item] = {}
    field, position = field.strip(" "), 0
    while position < len(field):
        match = _MEMBER.match(field, position)
        if match is None:
            raise ValueError("the field is not a dictionary")
        members[match[1]] = True if match[2] is None else _value(match[2])
        position = match.end()
    return members


def decode_base64(text: str) -> bytes:
    """Decode base64, with or without its padding (section 4.2.7); raises ValueError."""
    text = text.rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _value(text: str) -> Item:
    if text[0] == "?":
        return text == "?1"
    if text[0] == ":":
        return decode_base64(text[1:-1])
    return int(text) if text.removeprefix("-").isdecimal() else text
