"""OpenTelemetry traces: run > stage > shard group. Spans cost nothing where nobody exports them.

They are the driver's: a group's span lasts from its lease to its end, and has what its worker did
as attributes. Prefect adds spans of its own to the same traces.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import Span

from generators.errors import ConfigError

EXPORTER, ENDPOINTS = (
    "OTEL_TRACES_EXPORTER",
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
)
SERVICE = "discl"

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter


@contextmanager
def exported_traces(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Exports the spans of the block, where OpenTelemetry's own variables ask for it.

    A provider that is there already, e.g. that of `opentelemetry-instrument`, stays in charge.

    Raises:
        ConfigError: an exporter that is not known here, or is not installed.
    """
    asked = environment.get(EXPORTER) or (
        "otlp" if any(environment.get(name) for name in ENDPOINTS) else "none"
    )
    if asked == "none":
        yield
        return
    if asked not in ("otlp", "console"):
        raise ConfigError(EXPORTER, asked, "otlp, console or none")
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        name = environment.get("OTEL_SERVICE_NAME", SERVICE)
        provider = TracerProvider(resource=Resource.create({"service.name": name}))
        provider.add_span_processor(BatchSpanProcessor(_exporter(asked)))
        trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.force_flush()


def open_span(name: str, **attributes: str | float) -> Span:
    """A span below the current one; its caller ends it."""
    return trace.get_tracer(SERVICE).start_span(name, attributes=_named(attributes))


@contextmanager
def span(name: str, **attributes: str | float) -> Iterator[Span]:
    """A span that lasts as long as the block; an error of the block is its status."""
    with trace.get_tracer(SERVICE).start_as_current_span(
        name, attributes=_named(attributes)
    ) as opened:
        yield opened


def describe(opened: Span, attributes: Mapping[str, float]) -> None:
    """Numbers of a span that are known only now."""
    opened.set_attributes(_named(attributes))


def _named(attributes: Mapping[str, str | float]) -> dict[str, str | float]:
    return {f"discl.{name}": value for name, value in attributes.items()}


def _exporter(name: str) -> "SpanExporter":
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        allowed = "an exporter that is installed: pip install 'diffusion-curriculum[otel]'"
        raise ConfigError(EXPORTER, name, allowed) from error
    exporter: SpanExporter = OTLPSpanExporter()
    return exporter
