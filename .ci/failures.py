"""Say what failed in a run of the tests, so that its log's end is enough to understand it.

`failures.py REPORT` prints of each failed test its message and the end of its output, in which a
suite of a generated project has its own failures and the log of the service; exit code 1 when there
are more than ALONE, or none: then the run failed for another reason than its tests.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

#: So many tests may be run once more, alone.
ALONE = 3
#: Lines of one test's output.
LINES = 150
#: How pytest begins what it tells of failures.
FAILURES = re.compile(r"^=+ (FAILURES|ERRORS) =+$", re.MULTILINE)


def main(report: Path) -> int:
    if not report.exists():
        return 1
    failed = [
        (case, found)
        for case in ElementTree.parse(report).iter("testcase")  # noqa: S314  # Our own.
        for found in (*case.findall("failure"), *case.findall("error"))
    ]
    for case, found in failed:
        print(f"\n--- {case.get('classname')}::{case.get('name')}\n{found.get('message')}")
        texts = (found, *case.findall("system-out"), *case.findall("system-err"))
        output = "\n".join(each.text for each in texts if each.text)
        begin = FAILURES.search(output)
        lines = output[begin.start() if begin else 0 :].splitlines()
        if len(lines) > LINES:
            lines = [*lines[: LINES // 2], "[…]", *lines[-LINES // 2 :]]
        print("\n".join(lines))
    print(f"\n{len(failed)} failed:", *(str(case.get("name")) for case, _ in failed), sep="\n  ")
    return 0 if 0 < len(failed) <= ALONE else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
