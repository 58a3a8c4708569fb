"""httpx-sse: httpx_sse_client.py ADDRESS COUNT; prints each event as a line of JSON.

As its documentation requires, this script reconnects itself.
"""

import json
import sys
import time
from collections.abc import Iterator
from itertools import islice

import httpx  # type: ignore[import-not-found]
from httpx_sse import connect_sse  # type: ignore[import-not-found]


def events(client: httpx.Client, url: str) -> Iterator[list[str]]:
    last_event_id, delay = "", 0.0
    while True:
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        try:
            with connect_sse(client, "GET", url, headers=headers) as source:
                for event in source.iter_sse():
                    last_event_id = event.id
                    if event.retry is not None:
                        delay = event.retry / 1000
                    if event.data:
                        yield [event.event, event.id, event.data]
        except httpx.TransportError:
            time.sleep(delay)


def main(url: str, count: int) -> None:
    # The default timeout of five seconds is shorter than the heartbeat.
    with httpx.Client(timeout=60) as client:
        for event in islice(events(client, url), count):
            sys.stdout.write(f"{json.dumps(event)}\n")


main(sys.argv[1], int(sys.argv[2]))
