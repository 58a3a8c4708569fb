"""A chat."""

from fastapi import APIRouter

from .engine.realtime import RunRouter

runs = RunRouter(prefix="/runs", tags=["chat"])
router = APIRouter(tags=["chat"])
