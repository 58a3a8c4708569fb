"""The streaming kernel: what every stream of this service needs, once.

* `exchange`: one request, one response, one outcome; `middleware` opens and reports it.
* `pull` and `push`: the two ways to send (we iterate a source; others write to an open response).
* `batches`: rows sent many at once; `jsonl`: JSON Lines with an end marker.
* `codings`: compression that keeps nothing back, by `Accept-Encoding`.
* `body`: the one reader of a request body, with its limits, and the one check of what it says it
  is; `digests`: its integrity.
* `handshake`: which requests open a WebSocket; `origins`: whose pages may, and by which name.
* `fields`: header fields that come in several lines; `parameters`: those of one, and `charsets`.
* `pages`: parts of files as chunks, without a copy where the server takes them so.
* `deadlines`, `drain`, `admission`, `threads`: bounds on time, on life, on number, on blocking.
* `problem`, `principal`, `measures`, and the slots of `kernel`: where other modules attach.

Settings: `APP_STREAMING__…` (`limits`). It imports no other part of the service.
Sources: ASGI 3.0; RFC 9110 (HTTP semantics); RFC 9112 (HTTP/1.1).
"""

from .admission import Admission
from .batches import in_batches
from .body import (
    TOO_LARGE,
    UNWANTED,
    RequestBody,
    partial_body,
    refuse_coding,
    require_text,
    whole_request,
)
from .charsets import decode
from .codings import Coding, Gzip, negotiate_coding, weights
from .deadlines import send_within
from .digests import MISMATCH, Digester, digest_field, wanted_digest
from .exchange import Exchange, exchange_of
from .fields import MAX_FIELD, combined, joined, members
from .handshake import handshake_flaw
from .jsonl import JsonLines, described
from .kernel import Kernel, kernel_of
from .limits import ModuleLimits, StreamingSettings
from .measures import BOUNDS, REFUSALS, Measure
from .middleware import ExchangeMiddleware
from .origins import SENT_HOST, Hosts, Pages, is_address, origin_of
from .outcomes import Outcome, SlowClient, StreamAborted
from .pages import FilePart
from .parameters import parameters
from .principal import Principal, client_of, principal_of
from .problem import INVALID, PROBLEM_TYPES, Problem, invalid, places, problem_type, title_of
from .pull import ByteStream
from .push import Channel, PushResponse
from .threads import complete, in_thread, repeating

__all__ = [
    "BOUNDS",
    "INVALID",
    "MAX_FIELD",
    "MISMATCH",
    "PROBLEM_TYPES",
    "REFUSALS",
    "SENT_HOST",
    "TOO_LARGE",
    "UNWANTED",
    "Admission",
    "ByteStream",
    "Channel",
    "Coding",
    "Digester",
    "Exchange",
    "ExchangeMiddleware",
    "FilePart",
    "Gzip",
    "Hosts",
    "JsonLines",
    "Kernel",
    "Measure",
    "ModuleLimits",
    "Outcome",
    "Pages",
    "Principal",
    "Problem",
    "PushResponse",
    "RequestBody",
    "SlowClient",
    "StreamAborted",
    "StreamingSettings",
    "client_of",
    "combined",
    "complete",
    "decode",
    "described",
    "digest_field",
    "exchange_of",
    "handshake_flaw",
    "in_batches",
    "in_thread",
    "invalid",
    "is_address",
    "joined",
    "kernel_of",
    "members",
    "negotiate_coding",
    "origin_of",
    "parameters",
    "partial_body",
    "places",
    "principal_of",
    "problem_type",
    "refuse_coding",
    "repeating",
    "require_text",
    "send_within",
    "title_of",
    "wanted_digest",
    "weights",
    "whole_request",
]
