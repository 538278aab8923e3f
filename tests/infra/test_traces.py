"""Spans of a run: nested, with numbers and errors; exported only where that is asked for."""

import threading
from collections.abc import Iterator
from contextvars import copy_context

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from generators.errors import ConfigError
from infra.traces import describe, exported_traces, open_span, span
from infra.watching import watched

EXPORTER = InMemorySpanExporter()


@pytest.fixture(scope="module")
def provider() -> Iterator[TracerProvider]:
    """OpenTelemetry keeps one provider a process; after this module it is shut down."""
    found = TracerProvider()
    found.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(found)
    yield found
    found.shutdown()


@pytest.fixture
def spans(provider: TracerProvider) -> InMemorySpanExporter:
    EXPORTER.clear()
    return EXPORTER


def parent(child: ReadableSpan, spans: InMemorySpanExporter) -> str:
    found = {s.context.span_id: s.name for s in spans.get_finished_spans() if s.context}
    return found[child.parent.span_id] if child.parent else ""


def test_a_group_is_below_its_stage_and_that_below_the_run(spans: InMemorySpanExporter) -> None:
    with watched("animals"):
        stage = open_span("generate", units=40, unit="images")

        def work() -> None:
            with span("g040-1 +7") as group:
                describe(group, {"evaluations": 12.0, "network_seconds": 0.5})

        with trace.use_span(stage):  # as tasks are submitted: Prefect copies the context
            context = copy_context()
        thread = threading.Thread(target=context.run, args=(work,))
        thread.start()
        thread.join()
        stage.end()
    found = {item.name: item for item in spans.get_finished_spans()}
    assert found.keys() == {"run", "generate", "g040-1 +7"}
    assert parent(found["g040-1 +7"], spans) == "generate"
    assert parent(found["generate"], spans) == "run"
    assert found["run"].parent is None
    assert found["run"].attributes == {"discl.run": "animals"}
    assert found["generate"].attributes == {"discl.units": 40, "discl.unit": "images"}
    numbers = {"discl.evaluations": 12.0, "discl.network_seconds": 0.5}
    assert found["g040-1 +7"].attributes == numbers


def test_an_error_is_the_status_of_its_span(spans: InMemorySpanExporter) -> None:
    with pytest.raises(KeyError), span("group"):
        raise KeyError("gone")
    (found,) = spans.get_finished_spans()
    assert not found.status.is_ok
    assert found.events[0].attributes is not None
    assert found.events[0].attributes["exception.type"] == "KeyError"


def test_a_provider_that_is_there_stays_in_charge(
    provider: TracerProvider, spans: InMemorySpanExporter
) -> None:
    with exported_traces({"OTEL_TRACES_EXPORTER": "console"}), span("x"):
        pass
    assert trace.get_tracer_provider() is provider
    assert [item.name for item in spans.get_finished_spans()] == ["x"]


def test_an_unknown_exporter_is_refused() -> None:
    with (
        pytest.raises(ConfigError, match=r"OTEL_TRACES_EXPORTER.*zipkin.*otlp"),
        exported_traces({"OTEL_TRACES_EXPORTER": "zipkin"}),
    ):
        pass
