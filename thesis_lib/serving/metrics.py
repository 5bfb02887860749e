"""What Prometheus reads, in a registry of its own for each service."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

# An inference takes some hundred microseconds; Prometheus' usual buckets begin at 5 ms.
BUCKETS = (1e-5, 2.5e-5, 5e-5, 1e-4, 1.5e-4, 2e-4, 2.5e-4, 3.5e-4, 5e-4, 7.5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2)
# A request waits until those before it are served, for as long as the service lets it.
WAITING = (2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Shown as 0 before the first of each, or the first would be no increase.
REFUSALS = (400, 401, 403, 404, 408, 413, 422, 429, 431, 500, 503)


class Metrics:
    """The service's metrics; names are the contract."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.predictions = Counter("maddpg_predictions", "Requests answered with actions", registry=registry)
        self.duration = Histogram(
            "maddpg_prediction_duration_seconds",
            "From the body of a request to its answer, parsing and encoding included",
            buckets=BUCKETS,
            registry=registry,
        )
        self.answered = Histogram(
            "maddpg_request_duration_seconds",
            "From a whole request for actions to the last byte of its answer, waiting in line included",
            buckets=WAITING,
            registry=registry,
        )
        self.inference = Histogram(
            "maddpg_inference_duration_seconds", "The model alone", buckets=BUCKETS, registry=registry
        )
        self.errors = Counter(
            "maddpg_prediction_errors", "Requests for actions that were read and got none", registry=registry
        )
        self.loaded = Gauge("maddpg_model_load_timestamp", "When the model was loaded, Unix time", registry=registry)
        labels = ("agents", "observations", "actions", "version")
        self.info = Gauge("maddpg_model_info", "The model in use; always 1", labels, registry=registry)
        self.rejected = Counter("maddpg_model_rejected", "Model files that could not be served", registry=registry)
        self.refused = Counter("maddpg_requests_refused", "Answers of 400 and more", ("status",), registry=registry)
        for status in REFUSALS:
            self.refused.labels(str(status))
        begun = time.monotonic()
        uptime = Gauge("uptime_seconds", "Since the service began", registry=registry)
        uptime.set_function(lambda: time.monotonic() - begun)
        ProcessCollector(registry=registry)

    def model(self, agents: int, observations: int, actions: int, version: str) -> None:
        """A model was loaded; never raises."""
        self.info.clear()
        self.info.labels(str(agents), str(observations), str(actions), version).set(1)
        self.loaded.set_to_current_time()
