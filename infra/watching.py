"""Everything that watches a run: its logs, metrics and traces, opened and closed together."""

from collections.abc import Iterator
from contextlib import contextmanager

from infra.logs import concerning, log_settings, start_logging
from infra.meter import Meter, served
from infra.traces import exported_traces, span


@contextmanager
def watched(run: str) -> Iterator[Meter]:
    """Watches what happens in the block, as the environment asks for it.

    Args:
        run: name of the run, in every log line, metric and trace.

    Raises:
        ConfigError: a variable of the environment is wrong.
    """
    start_logging(log_settings())
    meter = Meter(run)
    with concerning(run=run), served(meter), exported_traces(), span("run", run=run):
        yield meter
