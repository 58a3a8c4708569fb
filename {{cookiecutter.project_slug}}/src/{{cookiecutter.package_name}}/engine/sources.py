"""The sources of the owner's streams: the generators of path operations and of their responses.

The guard of a request (`kernel.guard`) sees messages, in which a failed generator looks like one
that has ended: FastAPI sends the last message of an event stream before it raises. So the engine
wraps the path operations of the owner's routers at the start. The wrapper reports a failure to the
guard, which closes the generator when the client has left.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Generator
from contextlib import suppress
from functools import wraps
from inspect import (
    isasyncgenfunction,
    isawaitable,
    iscoroutinefunction,
    isgeneratorfunction,
    unwrap,
)
from typing import Any

from fastapi.routing import APIRoute, iter_route_contexts
from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool
from starlette.middleware import Middleware
from starlette.responses import StreamingResponse
from starlette.routing import Mount, Route, Router, WebSocketRoute

from .kernel.exchange import NO_ROUTE
from .kernel.kernel import Kernel
from .kernel.middleware import BreakMiddleware
from .kernel.threads import iterate_in_thread
from .kernel.work import Guard, current

#: The package of the engine, whose responses guard themselves.
ENGINE = __name__.rpartition(".")[0]
#: A parameter for the background tasks of a generator that has none.
TASKS = "background tasks"


def watch(app: Starlette | Router, kernel: Kernel, *around: Any) -> None:
    """Wrap the path operations of all routes that are not the engine's; again without effect.

    The scope of a request does not name the other routes, so the kernel gets their templates.
    """
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute):
            _watch_operation(context.dependant, context.is_sse_stream)
            continue
        if isinstance(route, Mount):
            _learn(kernel, route.app, str(context.path) + "/{path}")
        elif isinstance(route, (Route, WebSocketRoute)):
            _learn(kernel, route.endpoint, str(context.path))
        _look_inside(kernel, route, getattr(route, "app", None), app, *around)


def _look_inside(kernel: Kernel, owner: Any, inner: Any, *around: Any) -> None:
    """Watch a mounted application, and record failures inside of the middleware around it."""
    outer = owner
    while not isinstance(inner, Starlette | Router) and _is_asgi(getattr(inner, "app", None)):
        outer, inner = inner, inner.app
    if inner in around:
        return  # It is not the next layer, but refers to the application in which it is mounted.
    if isinstance(inner, Starlette):
        layers: list[Any] = inner.user_middleware
        is_known = inner.middleware_stack or any(each.cls is BreakMiddleware for each in layers)
        if not is_known and (layers or outer is not owner):
            layers.append(Middleware(BreakMiddleware))
    elif outer is not owner and not isinstance(outer, BreakMiddleware):
        with suppress(AttributeError):  # A middleware may be immutable.
            outer.app = BreakMiddleware(inner)
    if isinstance(inner, Router):
        _look_inside(kernel, inner, inner.middleware_stack)
    if isinstance(inner, Starlette | Router):
        watch(inner, kernel, *around)


def _is_asgi(app: Any) -> bool:
    return iscoroutinefunction(app) or iscoroutinefunction(type(app).__call__)


def _learn(kernel: Kernel, endpoint: Any, template: str) -> None:
    if kernel.templates.setdefault(id(endpoint), template) != template:
        kernel.templates[id(endpoint)] = NO_ROUTE  # The endpoint of several routes.


def _watch_operation(dependant: Any, is_events: bool) -> None:
    call = dependant.call
    is_own = f"{getattr(call, '__module__', '')}.".startswith(f"{ENGINE}.")
    if is_own or hasattr(call, "watched"):
        return
    function = unwrap(call)
    functions = (function, type(function).__call__)
    if any(isgeneratorfunction(each) or isasyncgenfunction(each) for each in functions):
        # Dependencies may add tasks as well, and the response is not available here.
        tasks = dependant.background_tasks_param_name or TASKS
        dependant.background_tasks_param_name = tasks
        dependant.call = _watched(call, is_events, tasks)
    else:
        dependant.call = _watched(call)
    if any(isgeneratorfunction(each) for each in functions):
        # FastAPI would iterate it in the threads of synchronous path operations.
        dependant.call.__wrapped__ = _iterate


def _watched(call: Any, is_events: bool = False, tasks: str = "") -> Any:
    """Wrap a path operation; `tasks` is the parameter with the background tasks of a generator."""

    # FastAPI looks through `wraps` to decide whether to await the result, or to iterate it.
    @wraps(call)
    def operation(*args: Any, **kwargs: Any) -> Any:
        background = kwargs.pop(tasks, None) if tasks == TASKS else kwargs.get(tasks)
        result = call(*args, **kwargs)
        guard = current.get(None)
        if guard is None:  # The router is also in an application without the engine.
            return iterate_in_threadpool(result) if isinstance(result, Generator) else result
        if isinstance(result, Generator):
            result = iterate_in_thread(guard.kernel.threads, result)
        if isinstance(result, AsyncGenerator):
            guard.background = lambda: background
            return _iterate(guard, result, is_events)
        if isinstance(result, StreamingResponse):
            _watch_body(guard, result)
        return _finish(guard, result) if isawaitable(result) else result

    operation.watched = True  # type: ignore[attr-defined]
    return operation


async def _finish(guard: Guard, result: Awaitable[Any]) -> Any:
    response = await result
    if isinstance(response, StreamingResponse):
        _watch_body(guard, response)
    return response


def _watch_body(guard: Guard, response: StreamingResponse) -> None:
    guard.background = lambda: response.background
    source: Any = response.body_iterator
    if getattr(source, "ag_code", None) is iterate_in_threadpool.__code__ and source.ag_frame:
        # A synchronous source must not occupy the threads of synchronous path operations.
        source = iterate_in_thread(guard.kernel.threads, source.ag_frame.f_locals["iterator"])
    response.body_iterator = _iterate(guard, source)


async def _iterate(
    guard: Guard, source: AsyncIterable[Any], ends_quietly: bool = False
) -> AsyncGenerator[Any]:
    if isinstance(source, AsyncGenerator):
        guard.sources.append(source)
    task = guard.runner = asyncio.current_task()
    try:
        async for item in source:
            guard.runner = None
            yield item
            guard.runner = task
    except GeneratorExit:
        raise
    except asyncio.CancelledError as error:
        if task is None or task.cancelling():
            raise
        # A task for which the source waits: libraries would take it for the end of the response.
        broken = guard.exchange.broken = RuntimeError("a task of the response was cancelled")
        broken.__cause__ = error
        if not ends_quietly:
            raise broken from error
    except BaseException as error:
        guard.exchange.broken = error
        # FastAPI would drop the events that wait in its queue. The guard raises the error instead,
        # at the end of the response.
        if not (ends_quietly and isinstance(error, Exception)):
            raise
    finally:
        if guard.runner is task:
            guard.source_ended()
