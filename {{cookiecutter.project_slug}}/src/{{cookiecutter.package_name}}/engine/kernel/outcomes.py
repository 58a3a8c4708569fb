"""How an exchange can end: one word everywhere, and the exceptions that lead there."""

from enum import StrEnum
from http import HTTPStatus

from starlette.requests import ClientDisconnect


class Outcome(StrEnum):
    """How an exchange ended; the same word in logs, metrics and tests."""

    COMPLETE = "complete"
    CLIENT_ABORT = "client_abort"
    SLOW_CLIENT = "slow_client"
    TIMEOUT = "timeout"
    SERVER_ERROR = "server_error"
    DRAINED = "drained"
    REJECTED = "rejected"

    @classmethod
    def of_status(cls, status: int) -> "Outcome":
        """Return the outcome of an exchange that ended with a whole response."""
        if status < 400:
            return cls.COMPLETE
        if status == HTTPStatus.REQUEST_TIMEOUT:
            return cls.TIMEOUT
        if status < 500 or status == HTTPStatus.SERVICE_UNAVAILABLE:
            return cls.REJECTED
        return cls.SERVER_ERROR


class StreamAborted(Exception):
    """A response that has begun cannot be finished, and the server has to cut the connection.

    Its cause (`__cause__`) says why. An ASGI server cuts when the application raises; returning
    early would make some of them end the response as if it were whole.
    """


class SlowClient(StreamAborted):
    """The peer did not take a message within the send timeout (seconds)."""


class ClientGone(ClientDisconnect, OSError):
    """The server does not take a message any more; an OSError, as ASGI has it and some expect."""
