"""Charsets of text in forms and headers, each as the Encoding Standard of browsers reads it.

It is a table, because `codecs.lookup` imports what a client names and remembers each name for ever.

Sources: RFC 7578, sections 4.5 and 4.6; WHATWG Encoding, section 4.2 (names and labels).
"""

_NUMBERED = {
    **{f"iso-8859-{part}": f"iso8859-{part}" for part in (*range(1, 12), *range(13, 17))},
    **{f"windows-{page}": f"cp{page}" for page in (874, *range(1250, 1259))},
}
#: Names in lower case, and Python's codecs. UTF-16 is not among them: its byte order is a guess.
_CODECS = _NUMBERED | {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "latin1": "latin-1",
    "koi8-r": "koi8-r",
    "koi8-u": "koi8-u",
    "macintosh": "mac-roman",
    "ibm866": "cp866",
    "shift_jis": "cp932",
    "euc-jp": "euc_jp",
    "iso-2022-jp": "iso2022_jp",
    "euc-kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5hkscs",
}


def decode(octets: bytes, charset: str) -> str:
    """Return text; raises LookupError for an unknown charset, UnicodeError for other bytes."""
    return octets.decode(_CODECS[charset.strip().lower()])
