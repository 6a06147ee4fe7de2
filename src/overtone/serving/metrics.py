"""What Prometheus may know of a server."""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from overtone.serving.limits import Limits
from overtone.serving.models import Loaded

# Where several processes of one server keep their counters, so that each can show the sum; prometheus_client reads it.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_FACTORS = (0.3, 1.0, 3.0, 10.0, 20.0, 30.0, 50.0, 100.0, 200.0)


class Metrics:
    """The counters of one server.

    Args:
        limits: whose open requests are shown.
    """

    def __init__(self, limits: Limits) -> None:
        self._registry = CollectorRegistry()
        self._limits = limits
        own: dict[str, Any] = {"registry": self._registry, "namespace": "overtone"}
        gauge = {**own, "multiprocess_mode": "livesum"}
        ProcessCollector(registry=self._registry)
        self.requests = Counter("requests", "Answered requests.", ["route", "method", "status"], **own)
        self.latency = Histogram(
            "request_seconds", "From a request's head to the end of its answer.", ["route"], buckets=_SECONDS, **own
        )
        self.audio = Counter("audio_seconds", "Sound enhanced, seconds.", ["route", "mode"], **own)
        self.factor = Histogram(
            "real_time_factor", "Seconds of sound a second of computing, by file.", buckets=_FACTORS, **own
        )
        self.jobs = Counter("jobs", "Ended jobs.", ["state"], **own)
        self.broken = Counter("broken_answers", "Answers broken off in their midst.", **own)
        self._model = Gauge("model_info", "The model of requests that name none.", ["version", "kind"],
                            **{**own, "multiprocess_mode": "livemax"})  # fmt: skip
        self._live = Gauge("live_sessions", "Open live streams.", **gauge)
        self._computing = Gauge("requests_in_flight", "Requests and jobs that hold a slot to compute in.", **gauge)
        self._waiting = Gauge("queue_length", "Requests that wait or send their audio.", **gauge)

    def serves(self, loaded: Loaded, before: Loaded | None) -> None:
        """Show another default model."""
        if before is not None:
            self._model.labels(before.version, before.kind).set(0)
        self._model.labels(loaded.version, loaded.kind).set(1)

    def enhanced(self, route: str, mode: str, seconds: float, computing: float) -> None:
        """Count a file that was enhanced: its seconds, and those that it took."""
        self.audio.labels(route, mode).inc(seconds)
        self.factor.observe(seconds / max(computing, 1e-6))

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer; `route` is a path's pattern, of which there are few."""
        self.requests.labels(route, method, str(status)).inc()
        self.latency.labels(route).observe(seconds)
        self._show_limits()

    def text(self) -> bytes:
        """All counters, of all processes of the server, in Prometheus's text format."""
        self._show_limits()
        if FOLDER not in os.environ:
            return bytes(generate_latest(self._registry))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        ProcessCollector(registry=registry)
        return bytes(generate_latest(registry))

    def _show_limits(self) -> None:
        limits = self._limits
        self._live.set(limits.live)
        self._computing.set(limits.computing)
        self._waiting.set(max(0, limits.requests - limits.computing))
