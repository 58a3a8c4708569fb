"""Ingestions: rows of JSON Lines or CSV, validated as they arrive.

An ingestion is an asynchronous function that receives the rows in batches, validated by the model
in its signature.
"""

from collections import deque
from typing import Annotated

from pydantic import BaseModel, Field, FiniteFloat

from .engine.upload import IngestRouter

router = IngestRouter(prefix="/ingest", tags=["upload"])


class Reading(BaseModel):
    """A row of the example."""

    sensor: Annotated[str, Field(min_length=1, max_length=64)]
    value: FiniteFloat


#: In memory for the example; store them in a database instead.
latest: deque[Reading] = deque(maxlen=1000)


@router.ingest("/readings")
async def readings(rows: list[Reading]) -> None:
    """Store the latest thousand readings."""
    latest.extend(rows)
