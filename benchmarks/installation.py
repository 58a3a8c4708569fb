"""Install the packages of all benchmarks, which later runs find in `build`."""

import shutil

import upload_servers
from servers import THEIRS, equip
from side_by_side import workplace


def main() -> None:
    with workplace(None, 1 << 30) as (directory, kept):
        tools = equip(directory, kept, beside=THEIRS)
        if shutil.which("npm"):
            upload_servers.node(tools)


if __name__ == "__main__":
    main()
