"""The sources of the owner's streams: the generators of path operations and of their responses.

The guard of a request (`kernel.guard`) sees messages, in which a failed generator looks like one
that has ended: FastAPI sends the last message of an event stream before it raises. So the engine
wraps the path operations of the owner's routers at the start. A source tells the guard of its
failure, and the guard closes it when the client has left.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator
from functools import wraps
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.concurrency import iterate_in_threadpool
from starlette.responses import StreamingResponse
from starlette.routing import Mount

from .kernel.guard import current
from .streams.pull import iterate_in_thread

#: The package of the engine, whose responses guard themselves.
ENGINE = __name__.rpartition(".")[0]


def watch(app: FastAPI) -> None:
    """Wrap the path operations of all routes that are not the engine's; again without effect."""
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, Mount):
            inner = context.original_route.app
            if isinstance(inner, FastAPI):
                watch(inner)
        elif isinstance(context.original_route, APIRoute):
            dependant = context.dependant
            if not f"{getattr(dependant.call, '__module__', '')}.".startswith(f"{ENGINE}."):
                dependant.call = _watched(dependant.call, context.is_sse_stream)


def _watched(call: Any, is_events: bool) -> Any:
    if hasattr(call, "watched"):
        return call
    wrapper: Any
    if inspect.isasyncgenfunction(call):
        wrapper = _of_async_generator(call, is_events)
    elif inspect.isgeneratorfunction(call):
        wrapper = _of_generator(call, is_events)
    elif inspect.iscoroutinefunction(call):
        wrapper = _of_coroutine(call)
    else:
        wrapper = _of_function(call)
    wrapper.watched = True
    return wrapper


def _of_async_generator(call: Callable[..., AsyncGenerator[Any]], is_events: bool) -> Any:
    @wraps(call)
    def source(*args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
        return _iterate(call(*args, **kwargs), is_events)

    return source


def _of_generator(call: Callable[..., Generator[Any]], is_events: bool) -> Any:
    # Without the attribute `__wrapped__`, by which FastAPI would find that `call` is synchronous.
    @wraps(call, assigned=("__module__", "__name__", "__qualname__", "__doc__"), updated=())
    async def source(*args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
        threads = current.get().kernel.threads
        async for item in _iterate(iterate_in_thread(threads, call(*args, **kwargs)), is_events):
            yield item

    del source.__wrapped__
    return source


def _of_coroutine(call: Callable[..., Any]) -> Any:
    @wraps(call)
    async def operation(*args: Any, **kwargs: Any) -> Any:
        return _with_watched_body(await call(*args, **kwargs))

    return operation


def _of_function(call: Callable[..., Any]) -> Any:
    @wraps(call)
    def operation(*args: Any, **kwargs: Any) -> Any:
        return _with_watched_body(call(*args, **kwargs))

    return operation


def _with_watched_body(response: Any) -> Any:
    if isinstance(response, StreamingResponse):
        guard = current.get()
        guard.response = response
        source: Any = response.body_iterator
        if getattr(source, "ag_code", None) is iterate_in_threadpool.__code__ and source.ag_frame:
            # A synchronous source must not occupy the threads of synchronous path operations.
            own = source.ag_frame.f_locals["iterator"]
            source = iterate_in_thread(guard.kernel.threads, own)
        response.body_iterator = _iterate(source)
    return response


async def _iterate(source: AsyncIterable[Any], ends_quietly: bool = False) -> AsyncGenerator[Any]:
    guard = current.get()
    guard.worker = asyncio.current_task()
    if isinstance(source, AsyncGenerator):
        guard.sources.append(source)
    try:
        async for item in source:
            yield item
    except GeneratorExit:
        raise
    except BaseException as error:
        guard.exchange.broken = error
        # FastAPI would drop the events that wait in its queue. The guard raises the error instead,
        # at the end of the response.
        if not (ends_quietly and isinstance(error, Exception)):
            raise
