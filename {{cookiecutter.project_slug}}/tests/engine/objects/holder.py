"""A process that takes leases: it prints one line for each that it reads.

* `take NAME`: take a lease, as soon as it is free; prints its fence, and whether it is taken over.
* `state`: print whether the lease is held, and whether it is wanted.
* `ask NAME`: ask for a lease; prints the ticket.
* `release`: release the lease.
* `count PATH TIMES`: increment the number in a file, each time with a lease of its own.
"""

import asyncio
import sys
from pathlib import Path

from {{cookiecutter.package_name}}.engine.kernel.problem import Problem
from {{cookiecutter.package_name}}.engine.objects.leases import (
    Lease,
    Leases,
    open_leases,
)


async def taken(leases: Leases, name: str) -> Lease:
    """Take a lease, as soon as another does not hold it and Redis is available."""
    while True:
        try:
            if lease := await leases.take(name):
                return lease
        except Problem as problem:
            if problem.status_code != 503:
                raise
        await asyncio.sleep(0.005)


async def count(leases: Leases, path: Path, times: int) -> None:
    for _ in range(times):
        lease = await taken(leases, "counter")
        number = int(path.read_text())
        await asyncio.sleep(0)
        path.write_text(str(number + 1))
        await lease.release()


async def main(url: str) -> None:
    lease: Lease | None = None
    async with open_leases(url, "test") as leases:
        print("ready", flush=True)  # noqa: T201
        while line := await asyncio.to_thread(sys.stdin.readline):
            command, *words = line.split()
            reply = "done"
            if command == "take":
                lease = await taken(leases, words[0])
                reply = f"{lease.fence} {lease.taken_over}"
            elif command == "state" and lease:
                reply = f"{lease.is_held()} {lease.is_wanted()}"
            elif command == "ask":
                reply = str(await leases.ask(words[0]))
            elif command == "release" and lease:
                await lease.release()
            elif command == "count":
                await count(leases, Path(words[0]), int(words[1]))
            print(reply, flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
