"""Observability: what the service says of itself while it runs."""

from typing import Any

from fastapi import FastAPI

from . import health


def install(app: FastAPI) -> None:
    """Add the routes for orchestrators and monitors, and watch what ends."""
    app.include_router(health.router)


def telemetry() -> Any:
    """Return FastAPI's options for OpenTelemetry."""
    return {"operation_spans": False}
