"""A planned request as the bytes of an HTTP/1.1 request."""

import math

import orjson

from hfx_sgl.errors import ConfigError
from hfx_sgl.loadtest.settings import (
    Endpoint,
    LoadSettings,
    OutputLengths,
    SloHints,
    TokenCount,
)
from hfx_sgl.slo import Slo
from hfx_sgl.workload.planned import PlannedRequest
from hfx_sgl.workload.prompt_text import prompt_text
from hfx_sgl.workload.request_body import EMULATED_OUTPUT_TOKENS, messages_json

_MS_PER_S = 1000.0
Fields = dict[str, object]


def request_bytes(planned: PlannedRequest, settings: LoadSettings) -> bytes:
    """Return head and body.

    Raises:
        ConfigError: a name in the request cannot stand in a header.
    """
    body = body_json(planned, settings)
    target = settings.target
    headers = [
        ("host", target.url.netloc),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("accept", "text/event-stream"),
        ("x-request-id", planned.request_id),
        *_slo_headers(planned, settings.slo_hints),
        *target.headers,
    ]
    if planned.routing_key is not None:
        headers.append(("x-smg-routing-key", planned.routing_key))
    lines = [f"POST {target.path} HTTP/1.1"]
    lines += [f"{name}: {checked_value(name, value)}" for name, value in headers]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + body


def checked_value(name: str, value: str) -> str:
    """Return a header's value, which must not end the line that it stands on."""
    if not value.isprintable() or not value.isascii():
        raise ConfigError(f"{name}: {value!r} cannot stand in an HTTP header")
    return value


def body_json(planned: PlannedRequest, settings: LoadSettings) -> bytes:
    """Return the JSON body."""
    target = settings.target
    fields = _body_fields(planned, settings)
    if slo := _body_slo(planned.slo, settings.slo_hints):
        fields["slo"] = slo
    # The prompt is put in as it is, since it holds nothing that JSON would escape.
    rest = orjson.dumps(fields)[1:]
    if target.endpoint is Endpoint.GENERATE:
        return b"".join((b'{"text":"', prompt_text(planned.prompt).encode("ascii"), b'",', rest))
    model = orjson.dumps(target.model)
    if target.endpoint is Endpoint.CHAT:
        return b"".join((b'{"model":', model, b',"messages":', messages_json(planned), b",", rest))
    prompt = prompt_text(planned.prompt).encode("ascii")
    return b"".join((b'{"model":', model, b',"prompt":"', prompt, b'",', rest))


def max_tokens(planned: PlannedRequest, output_lengths: OutputLengths) -> int:
    """Return the limit that the request sets."""
    if output_lengths is OutputLengths.IGNORE_EOS:
        return planned.num_output_tokens
    return planned.max_output_tokens


def _body_fields(planned: PlannedRequest, settings: LoadSettings) -> Fields:
    lengths = settings.output_lengths
    limit = max_tokens(planned, lengths)
    fields: Fields
    if settings.target.endpoint is Endpoint.GENERATE:
        sampling: Fields = {"max_new_tokens": limit}
        if lengths is OutputLengths.IGNORE_EOS:
            sampling["ignore_eos"] = True
        fields = {"sampling_params": sampling, "stream": True}
    else:
        fields = {"max_tokens": limit, "stream": True}
        if settings.token_count is TokenCount.USAGE:
            fields["stream_options"] = {"include_usage": True}
        if lengths is OutputLengths.IGNORE_EOS:
            fields["ignore_eos"] = True
    if lengths is OutputLengths.EMULATED:
        fields[EMULATED_OUTPUT_TOKENS] = planned.num_output_tokens
    if planned.priority is not None:
        fields["priority"] = planned.priority
    return fields


def _slo_headers(planned: PlannedRequest, hints: SloHints) -> list[tuple[str, str]]:
    headers = []
    if hints in (SloHints.ALL, SloHints.BOUNDS):
        bounds = (("x-slo-ttft-ms", planned.slo.ttft_s), ("x-slo-tpot-ms", planned.slo.tpot_s))
        headers += [
            (name, f"{_MS_PER_S * bound_s:g}") for name, bound_s in bounds if bound_s < math.inf
        ]
    if hints in (SloHints.ALL, SloHints.CLASS):
        headers.append(("x-slo-class", planned.class_name))
    return headers


def _body_slo(slo: Slo, hints: SloHints) -> dict[str, float]:
    """Return the bounds for the body, only where headers cannot say them: there is no header for
    the end-to-end bound."""
    if slo.e2e_s == math.inf or hints not in (SloHints.ALL, SloHints.BOUNDS):
        return {}
    bounds = {"ttft_ms": slo.ttft_s, "tpot_ms": slo.tpot_s, "e2e_ms": slo.e2e_s}
    return {
        name: round(_MS_PER_S * bound_s, 6)
        for name, bound_s in bounds.items()
        if bound_s < math.inf
    }
