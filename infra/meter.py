"""The driver's metrics: kept in a registry of their own, served as Prometheus text on demand."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    start_http_server,
    write_to_textfile,
)

from generators.errors import ConfigError
from infra.metrics import RUN, VOCABULARY, Metric

PORT, ADDRESS, FILE = "DISCL_METRICS_PORT", "DISCL_METRICS_ADDRESS", "DISCL_METRICS_FILE"
LOOPBACK = "127.0.0.1"


class Meter:
    """The metrics of one run; costs a dictionary look-up a value where nobody reads them.

    Args:
        run: name of the run.
    """

    def __init__(self, run: str) -> None:
        self._run, self.registry = run, CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        for metric in VOCABULARY:
            about = (metric.name, metric.about, (RUN, *metric.labels))
            if metric.kind == "counter":
                self._counters[metric.name] = Counter(*about, registry=self.registry)
            else:
                self._gauges[metric.name] = Gauge(*about, registry=self.registry)
            if not metric.labels:  # there from the begin, so that a rate sees the first event
                self.add(metric, 0) if metric.kind == "counter" else self.put(metric, 0)

    def add(self, metric: Metric, value: float, **labels: str) -> None:
        """A counter grows by `value` >= 0."""
        self._counters[metric.name].labels(run=self._run, **labels).inc(value)

    def put(self, metric: Metric, value: float, **labels: str) -> None:
        """A gauge is `value` now."""
        self._gauges[metric.name].labels(run=self._run, **labels).set(value)


@contextmanager
def served(meter: Meter, environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Answers scrapes while the block runs, where the environment asks for it.

    `DISCL_METRICS_PORT` is the port, `DISCL_METRICS_ADDRESS` where it is bound (default: this
    machine only). `DISCL_METRICS_FILE` gets the last values when the block ends, also by an error:
    for node_exporter's textfile collector, as a short run may end between two scrapes.

    Raises:
        ConfigError: the port is no port, or is taken.
    """
    port, last = environment.get(PORT), environment.get(FILE)
    if not port:
        server = None
    else:
        try:
            number = int(port)
            server, thread = start_http_server(
                number, environment.get(ADDRESS, LOOPBACK), meter.registry
            )
        except (ValueError, OverflowError, OSError) as error:
            raise ConfigError(PORT, port, f"a free port, 1..65535 ({error})") from error
    try:
        yield
    finally:
        if last:
            write_to_textfile(last, meter.registry)
        if server is not None:
            server.shutdown()
            server.server_close()
            thread.join()
