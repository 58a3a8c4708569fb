"""A plugin of pytest that runs one case of each parametrized test: the first that is not skipped.

It is copied into projects with one module, whose tests also run with all modules in all cases.
"""

import pytest

RAN: set[str] = set()


def function_of(nodeid: str) -> str:
    return nodeid.partition("[")[0]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if function_of(item.nodeid) in RAN:
        pytest.skip("another case of this test has run")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and not report.skipped:
        RAN.add(function_of(report.nodeid))
