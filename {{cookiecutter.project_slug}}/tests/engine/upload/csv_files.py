"""CSV files as programs write them, and how Python's csv module reads them."""

import csv
import io
from collections.abc import Iterator
from typing import NamedTuple

#: Valid rows after a malformed one, which must not be lost with it.
ROWS = "".join(f"r{n},{n},{n}\n" for n in range(1000))


class CsvFile(NamedTuple):
    """A file, and the first lines of the records that must be reported."""

    name: str
    text: str
    reported: tuple[int, ...] = ()
    #: Whether an earlier version lost or invented rows.
    was_misread: bool = False

    @property
    def body(self) -> bytes:
        return self.text.encode(errors="surrogateescape")

    def rows(self) -> list[list[str]]:
        """Return the rows that must be accepted."""
        wanted = []
        for line, records in self._lines()[1:]:
            # The module splits at a lone carriage return; the service rejects such a row.
            assert len(records) == 1 or line in self.reported
            if line not in self.reported:
                wanted.append(records[0])
        return wanted

    def _lines(self) -> list[tuple[int, list[list[str]]]]:
        """Return the records of the csv module by their first line, without blank ones."""
        text = self.text.removeprefix("\ufeff")
        source = io.StringIO(text, newline="")
        found: list[tuple[int, list[list[str]]]] = []
        begun = at = 0
        records: list[list[str]] = []
        for values in _records(source):
            at = source.tell()
            records += [values] if values else []
            if text[at - 1] == "\n" or at == len(text):
                found += [(1 + text.count("\n", 0, begun), records)] if records else []
                begun, records = at, []
        return found


def _records(source: io.StringIO) -> Iterator[list[str]]:
    """Yield the records of the csv module, without its limit on the size of fields."""
    limit = csv.field_size_limit(1 << 30)
    try:
        yield from csv.reader(source)
    finally:
        csv.field_size_limit(limit)


FILES = [
    CsvFile("LF", "a,b,c\n1,2,3\n4,5,6\n"),
    CsvFile("CRLF", "a,b,c\r\n1,2,3\r\n4,5,6\r\n"),
    CsvFile("LF and CRLF", "a,b,c\r\n1,2,3\n4,5,6\r\n"),
    CsvFile("CR CR LF", "a,b,c\r\r\n1,2,3\r\r\n4,5,6\r\r\n"),
    CsvFile("no last line end", "a,b,c\n1,2,3\n4,5,6"),
    CsvFile("a CR at the end", "a,b,c\r\n1,2,3\r\n4,5,6\r"),
    CsvFile("nothing", ""),
    CsvFile("nothing but blank lines", "\n\r\n\n"),
    CsvFile("a header alone", "a,b,c\n"),
    CsvFile("a header without its end", "a,b,c"),
    CsvFile("blank lines", "\n\r\na,b,c\n\n1,2,3\n\r\n\n4,5,6\n\n"),
    CsvFile("a line of spaces is a row", "a\n  \nx\n", was_misread=True),
    CsvFile("a line of spaces is a bad row", "a,b\n \t\n1,2\n", (2,), was_misread=True),
    CsvFile("all quoted", '"a","b","c"\r\n"1","2","3"\r\n'),
    CsvFile("commas in quotes", 'a,b,c\n"1,1",",",",,,"\n'),
    CsvFile("quotes doubled", 'a,b,c\n"say ""x""","""",""""""\n"""1",2,3\n'),
    CsvFile("LF in quotes", 'a,b,c\n"1\n\n1",2,3\n4,5,"\n"\n7,8,9\n'),
    CsvFile("CRLF in quotes", 'a,b,c\r\n"1\r\n1",2,3\r\n4,"5\r\n",6\r\n'),
    CsvFile("LF in quotes, CRLF outside", 'a,b,c\r\n"1\n1",2,3\r\n4,5,6\r\n'),
    CsvFile("CR in quotes", 'a,b,c\n"1\r1",2,3\n4,5,"\r"\n'),
    CsvFile("a header of two lines", '"a\nb",c\n1,2\n3\n"4\n4",5\n6\n', (4, 7)),
    CsvFile("inches", 'a,b,c\n5" pipe,6",7\n8,9,10"\n11" x 12",1"2"3,4\n'),
    CsvFile("inches and quotes in one row", 'a,b,c\n"x",5",1\n5","x",1\n5","6""",7\n1,2,3\n'),
    CsvFile(
        "inches before an address of two lines",
        'id,address,n\n5" pipe,"Main St 1\nBerlin, Germany",3\nx,y,4\n',
        was_misread=True,
    ),
    CsvFile("inches after a field of two lines", f'a,b,c\n"1\n1",5" pipe,3\n{ROWS}', (), True),
    CsvFile("inches before it, and rows", f'a,b,c\n5" pipe,"1\n,1",3\n{ROWS}', (), True),
    CsvFile("inches in each second row", 'a,b,c\n5" x,"2\n2",3\n4,"5\n""5",6"\n' * 50, (), True),
    CsvFile("a quote after a field of two lines", 'a,b\n"1\n1"",2"\n3,4\n"5\n5",6"\n7,8\n', (2,)),
    CsvFile("a bad row after a field of two lines", f'a,b,c\n"1\n1"x,"2,3\n4,5,6"\n{ROWS}', (2,)),
    CsvFile("a bad row among good ones", f'a,b,c\n{ROWS}"1"1,2,3\n{ROWS}', (1002,)),
    CsvFile("a bad row of several lines", 'a,b,c\n"1"1,"2\n\n2",3\n4,5,6\n', (2,)),
    CsvFile("a bad row with inches", 'a,b,c\n"1"1",5","2\n2"\n4,5,6\n', (2,)),
    CsvFile("a space after a closing quote", 'a,b,c\n"1" ,2,3\n"4","5"\t,6\n7,8,9\n', (2, 3)),
    CsvFile("spaces before a quote", 'a,b,c\n "1",\t"2","3"\n'),
    CsvFile("spaces within cells", "a,b,c\n 1 , 2\t,3 \n"),
    CsvFile("backslashes", 'a,b,c\n\\"1,2\\,3\n"4\\"5",5,6\n7,8,9\n', (3,)),
    CsvFile("a quote that is not closed", 'a,b,c\n1,2,3\n4,"5,6', (3,)),
    CsvFile("a quote that is not closed, and rows", f'a,b,c\n1,2,3\n4,"5,6\n{ROWS}', (3,)),
    CsvFile("a quote that another row closes", 'a,b,c\n1,"2,3\n4,"5",6\n7,8,9\n', (2,)),
    CsvFile("a quote alone", 'a\nx\n"', (3,)),
    CsvFile("too few fields", "a,b,c\n1,2\n3\n4,5,6\n", (2, 3)),
    CsvFile("too many fields", "a,b,c\n1,2,3,\n1,2,3,4\n4,5,6\n", (2, 3)),
    CsvFile("empty cells", 'a,b,c\n,,\n"","",""\n,"",\n1,,3\n'),
    CsvFile("empty cells of one column", 'a\n""\n\n"",\nx\n', (4,)),
    CsvFile("other separators", "a;b\tc|d,e\n1;2,3\n'x,y'\n'1;2','3\n"),
    CsvFile("a comment", "a,b\n#1,2\n# no\n", (3,)),
    CsvFile("a byte order mark", '\ufeff"a",b,c\r\n"1",2,3\r\n\ufeff4,5,6\r\n'),
    CsvFile("characters that others end lines at", "a,b\n1\u2028\x85,\x0b\x0c\x1c\n\x0c,2\n"),
    CsvFile("letters", "naïve,😀\nä,ö\n\u202eabc,\ufeff\n"),
    CsvFile("no UTF-8", "a,b\n1,\udcff\n\udcc3,2\n3,\u00e4\n", (2, 3)),
    CsvFile("a NUL", 'a,b\n1,\0\n"\0\n",2\n3,4\n', (2, 3)),
    CsvFile("a CR within a row", "a,b,c\n1,2\r2,3\n4,5,6\n", (2,)),
    CsvFile("a CR before a quote", 'a,b,c\n1,2\r"2,3\n4",5,6\n7,8,9\n', (2,), was_misread=True),
    CsvFile("a CR after a closing quote", 'a,b,c\n"1"\r2,"3\n",4\n7,8,9\n', (2,)),
    CsvFile("a field over many chunks", 'a,b\n"' + 'x is ""y""\n' * 9000 + '",2\n3,4\n'),
    CsvFile("a field of many characters", f"a,b\n{'x' * 150_000},2\n3,4\n"),
    CsvFile("many cells", ",".join(map(str, range(3000))) + "\n" + ",".join("x" * 3000) + "\n"),
]  # fmt: skip
