"""Print a summary of the failed tests at the end of a log.

`failures.py REPORT` prints the message of each failed test and the end of its output, which
contains the failures of a generated project's suite and the log of the service. The exit code is 1
if more than ALONE tests failed, or none: then the run failed for a reason other than its tests.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

#: The maximum number of tests that are run again, alone.
ALONE = 3
#: Lines of output per test.
LINES = 150
#: The prefix of the lines in which pytest reports failures.
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
