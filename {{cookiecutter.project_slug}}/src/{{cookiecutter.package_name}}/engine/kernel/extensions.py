"""Extensions of ASGI that our server offers, and others may not.

An application sends the messages of one only where the scope names it (ASGI 3.0, "Extensions").
"""

from typing import Protocol

#: The ASGI extension that sends from a descriptor, and its message.
ZERO_COPY = "http.response.zerocopysend"
#: Our own extension: a head that has this key, as it arrives, is answered with a `writer` in the
#: extension's entry of the scope.
DIRECT = "http.response.direct"
#: Another one: the message ends the connection, and no response is sent.
HANG_UP = "http.connection.close"


class DirectWriter(Protocol):
    """What a server offers: parts of a body without waiting, for as long as the client takes it."""

    def ready(self) -> bool: ...

    def write(self, body: bytes) -> None: ...

    async def send(self, body: bytes) -> None: ...
