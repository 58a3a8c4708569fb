"""The broker of one process: events are numbered here, and gone when the process is."""

import secrets
from collections.abc import Callable

from ..messages import Message

Deliver = Callable[[str, int, Message], None]


class MemoryBackend:
    """Numbers events over all topics; a new epoch at every start tells that old ones are gone."""

    def __init__(self, deliver: Deliver) -> None:
        self.epoch = secrets.token_hex(4)
        self.top = 0
        self._deliver = deliver

    async def publish(self, topic: str, message: Message) -> int:
        """Return the number of the message."""
        self.top += 1
        self._deliver(topic, self.top, message)
        return self.top
