"""Which tests run in one process of pytest-xdist, because they share fixtures.

With pytest 9.2, the marks of `--dist=loadgroup` have no effect: xdist 3.8 writes them to an
attribute of the tests that pytest no longer reads.
"""

from pathlib import PurePosixPath

#: Files whose tests run in any process: they share nothing that takes long to make.
SPREAD = {
    "test_benchmarks",
    "test_generated_suites",
    "test_naive",
    "test_prompts",
    "test_pythons",
}
#: Tests in such files whose cases share a cache: types of dependencies are analysed once.
TOGETHER = {"test_the_types_of_a_project_are_sound"}
#: Files that use one browser.
BROWSER = {
    "test_download_browser",
    "test_foreign_pages",
    "test_page_browser",
    "test_page_files_browser",
    "test_page_states",
}


def group_of(nodeid: str) -> str:
    """Return the group of a test, by default its file."""
    path, _, test = nodeid.partition("::")
    name = PurePosixPath(path).stem
    if test.partition("[")[0] in TOGETHER:
        return test.partition("[")[0]
    if name in SPREAD:
        return nodeid
    if name == "test_matrix":
        return f"{name}[{test.partition('[')[2]}"  # The tests of a set share its projects.
    return "browser" if name in BROWSER else name
