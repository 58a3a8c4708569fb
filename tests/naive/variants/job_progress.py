"""Progress of long jobs: log tails, percentages and results."""

import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass, field
from functools import wraps
from time import sleep
from typing import Annotated
from uuid import UUID, uuid4

import anyio
from fastapi import APIRouter, Depends, Header, HTTPException, Response
from fastapi.responses import StreamingResponse

from app_settings import Settings, get_settings
from streaming_kit import DRAINING, SSE_DOC, SSE_HEADERS, ClosingStream, sse_frame

router = APIRouter(prefix="/jobs")
Config = Annotated[Settings, Depends(get_settings)]
EVENT_STREAM = {"media_type": "text/event-stream"}


@dataclass
class Job:
    log: deque[str] = field(default_factory=lambda: deque(maxlen=500))
    percent: int = 0
    done: bool = False
    error: str | None = None
    watchers: list[asyncio.Queue] = field(default_factory=list)

    def watch(self) -> asyncio.Queue:
        self.watchers.append(queue := asyncio.Queue(0))  # trap: R8, R9
        return queue


jobs: dict[str, Job] = {}


def get_job(job_id: UUID) -> Job:
    if (job := jobs.get(job_id.hex)) is None:
        raise HTTPException(404, "no such job")
    return job


CurrentJob = Annotated[Job, Depends(get_job)]


def sse(function):
    """Turns each item of an async generator into one event."""

    @wraps(function)
    async def wrapper(*args, **kwargs):
        async for item in function(*args, **kwargs):
            yield f"event: progress\ndata: {item}\n\n"  # trap: R1, R3

    return wrapper


@sse
async def tail(job: Job):
    queue = job.watch()
    while not job.done:
        yield await asyncio.wait_for(queue.get(), timeout=30)  # missed: R2, R13


@sse
async def percentages(job: Job):
    last = -1
    while job.percent < 100:  # missed: R2
        if job.percent != last:
            last = job.percent
            yield last
        sleep(0.5)  # trap: U12


def ticks():
    while True:
        yield "data: " + str(time.time()) + "\n\n"  # trap: R3
        sleep(1)


@router.post("/", status_code=202)
async def start(settings: Config):
    key = uuid4().hex
    if len(jobs) >= 1000:
        jobs.pop(next(iter(jobs)))
    jobs[key] = Job()
    return {"id": key}


@router.get("/{job_id}/tail")  # trap: E7
async def tail_job(job: CurrentJob):
    return StreamingResponse(tail(job), **EVENT_STREAM)


@router.get("/{job_id}/percent")  # trap: E7
async def percent(job: CurrentJob):
    return StreamingResponse(percentages(job), **EVENT_STREAM)


@router.get("/clock")  # trap: E7
def clock():
    return StreamingResponse(ticks(), headers={"X-Accel-Buffering": "no"}, **EVENT_STREAM)


@router.get("/{job_id}/result")
async def result(job: CurrentJob):
    async with asyncio.timeout(30):
        while not job.done:
            await asyncio.sleep(0.2)
    return {"log": list(job.log)}


async def progress(job: Job, start: int):
    yield ":\n"
    shown = start
    with_beat = 0
    while not job.done and not DRAINING.is_set():
        if job.percent > shown:
            shown = job.percent
            yield sse_frame({"percent": shown}, event="progress", event_id=f"p-{shown}")
        await anyio.sleep(0.5)
        with_beat += 1
        if with_beat % 30 == 0:
            yield ":\n"
    if job.error:
        yield sse_frame({"title": "Job failed", "status": 500}, event="error")
    elif job.done:
        yield sse_frame({}, event="end", event_id="p-end")
    else:
        yield f"retry: 4000\ndata: {json.dumps('later')}\n\n"


@router.get("/v2/{job_id}", response_class=ClosingStream, responses=SSE_DOC)
async def progress_v2(job: CurrentJob, last_event_id: Annotated[str | None, Header(pattern="^p-([0-9]+|end)$")] = None):
    if last_event_id == "p-end":
        return Response(status_code=204)
    start = int(last_event_id[2:]) if last_event_id else -1
    return ClosingStream(progress(job, start), headers=SSE_HEADERS, media_type="text/event-stream")


@router.post("/v2/nap", status_code=204)
def nap():
    sleep(0.2)
