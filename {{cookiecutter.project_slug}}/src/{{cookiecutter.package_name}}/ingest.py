"""Ingestions: rows of JSON Lines or CSV, validated as they arrive.

An ingestion is an asynchronous function that receives the valid rows in batches. The annotation of
its first parameter is the model of a row.
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


#: The example stores rows in memory; a real service uses a database.
latest: deque[Reading] = deque(maxlen=1000)


@router.ingest("/readings")
async def readings(rows: list[Reading]) -> None:
    """Store the latest 1,000 readings."""
    latest.extend(rows)
