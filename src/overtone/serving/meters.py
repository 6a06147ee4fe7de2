"""What Prometheus may know of a server: `GET /metrics`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from overtone.serving import service
from overtone.serving.room import Room
from overtone.serving.service import Service
from overtone.serving.shelf import Loaded
from overtone.serving.work import Work

router = APIRouter(tags=["health"])
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_FACTORS = (0.3, 1.0, 3.0, 10.0, 20.0, 30.0, 50.0, 100.0, 200.0)


class Meters:
    """The counters of one server.

    Args:
        room: whose places are shown.
    """

    def __init__(self, room: Room) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "overtone"}
        ProcessCollector(registry=self.registry)
        self.requests = Counter("requests", "Answered requests.", ["route", "method", "status"], **own)
        self.latency = Histogram(
            "request_seconds", "From a request's head to the end of its answer.", ["route"], buckets=_SECONDS, **own
        )
        self.audio = Counter("audio_seconds", "Sound enhanced, seconds.", ["route", "mode"], **own)
        self.factor = Histogram(
            "real_time_factor", "Seconds of sound a second of computing, by request.", buckets=_FACTORS, **own
        )
        self.broken = Counter("broken_answers", "Answers broken off in their midst.", **own)
        self._model = Gauge("model_info", "The model of requests that name none.", ["version", "kind"], **own)
        self.live = Gauge("live_sessions", "Open live streams.", **own)
        Gauge("requests_in_flight", "Requests worked on.", **own).set_function(lambda: room.working)
        Gauge("queue_length", "Requests that wait or send their audio.", **own).set_function(lambda: room.waiting)

    def serves(self, loaded: Loaded) -> None:
        """Show another default model."""
        self._model.clear()
        self._model.labels(loaded.version, loaded.kind).set(1)

    def enhanced(self, work: Work) -> None:
        """Count a file that was enhanced."""
        self.audio.labels("/v1/enhance", work.mode).inc(work.seconds)
        self.factor.observe(work.seconds / max(work.computing, 1e-6))

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer; `route` is a path's pattern, of which there are few."""
        self.requests.labels(route, method, str(status)).inc()
        self.latency.labels(route).observe(seconds)


@router.get("/metrics", include_in_schema=False)
async def metrics(served: Annotated[Service, Depends(service.of)]) -> Response:
    """The counters in Prometheus's text format."""
    return Response(generate_latest(served.meters.registry), media_type=CONTENT_TYPE_LATEST)
