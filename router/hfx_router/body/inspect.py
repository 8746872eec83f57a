"""Reads the few fields that routing needs; the rest of the body stays unread and unchanged."""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from hfx_sgl.errors import InvalidRequestError

MAX_BATCH = 65_536
"""Rooms of one batch share the upper bits of its first room, which leaves 16 bits to count with."""


class StatedBounds(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body field `slo`: bounds in milliseconds. None is a bound not stated."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None


class RoutingFields(msgspec.Struct, kw_only=True):
    """The top-level fields that routing looks at, of any endpoint. UNSET is a field not sent."""

    stream: bool | None = None
    rid: str | list[str] | None = None
    return_logprob: bool | list[bool] | None = None
    n: int | None = None
    echo: bool | None = None
    slo: StatedBounds | UnsetType | None = UNSET
    slo_class: str | UnsetType | None = UNSET
    model: Raw | UnsetType = UNSET
    logprobs: Raw | UnsetType = UNSET
    sampling_params: Raw | UnsetType = UNSET
    messages: Raw | UnsetType = UNSET
    prompt: Raw | UnsetType = UNSET
    text: Raw | UnsetType = UNSET
    input_ids: Raw | UnsetType = UNSET
    input: Raw | UnsetType = UNSET
    bootstrap_host: Raw | UnsetType = UNSET
    bootstrap_port: Raw | UnsetType = UNSET
    bootstrap_room: Raw | UnsetType = UNSET
    bootstrap_pair_key: Raw | UnsetType = UNSET
    decode_tp_size: Raw | UnsetType = UNSET
    disagg_prefill_dp_rank: Raw | UnsetType = UNSET
    routed_dp_rank: Raw | UnsetType = UNSET
    data_parallel_rank: Raw | UnsetType = UNSET
    priority: Raw | UnsetType = UNSET
    tools: Raw | UnsetType = UNSET
    max_tokens: Raw | UnsetType = UNSET
    max_completion_tokens: Raw | UnsetType = UNSET
    max_output_tokens: Raw | UnsetType = UNSET

    def has_pairing_fields(self) -> bool:
        """Whether the client sent any field that pairs prefill with decode."""
        return not (
            self.bootstrap_host is UNSET
            and self.bootstrap_port is UNSET
            and self.bootstrap_room is UNSET
            and self.bootstrap_pair_key is UNSET
            and self.decode_tp_size is UNSET
            and self.disagg_prefill_dp_rank is UNSET
        )

    def has_slo_fields(self) -> bool:
        """Whether the client sent a field that asks for a promise."""
        return not (self.slo is UNSET and self.slo_class is UNSET)

    def chooses_dp_rank(self) -> bool:
        """Whether the client asked for a data-parallel rank itself."""
        return not (self.routed_dp_rank is UNSET and self.data_parallel_rank is UNSET)

    def wants_logprobs(self) -> bool:
        """Whether log probabilities are asked for, for any prompt of a batch."""
        wanted = self.return_logprob
        return any(wanted) if isinstance(wanted, list) else bool(wanted)

    def wants_echoed_logprobs(self) -> bool:
        """Whether a completion is to repeat its prompt with log probabilities."""
        return bool(self.echo) and self.logprobs is not UNSET and bytes(self.logprobs) != b"null"

    def prompt_json(self) -> bytes:
        """Return the JSON text of the field that carries the prompt; empty without one."""
        for raw in (self.messages, self.text, self.prompt, self.input_ids, self.input):
            if raw is not UNSET:
                return bytes(raw)
        return b""


PAIRING_FIELDS = frozenset(
    (
        "bootstrap_host", "bootstrap_port", "bootstrap_room", "bootstrap_pair_key",
        "decode_tp_size", "disagg_prefill_dp_rank",
    )
)  # fmt: skip
"""Fields that only a router may set: one of them wrong or missing takes a decode scheduler down."""

SLO_FIELDS = frozenset(("slo", "slo_class"))
"""Fields that are addressed to the router; SGLang knows none of them."""

DP_FIELDS = frozenset(("routed_dp_rank", "data_parallel_rank"))
"""Fields that choose a data-parallel rank; ours when routing is aware of ranks."""


class _SamplingParams(msgspec.Struct):
    n: int | None = None


_ROUTING_FIELDS = msgspec.json.Decoder(RoutingFields)
_ITEMS = msgspec.json.Decoder(list[Raw])
_SAMPLING_PARAMS = msgspec.json.Decoder(_SamplingParams | list[_SamplingParams] | None)


def read_routing_fields(body: bytes) -> RoutingFields:
    """Decode the routing fields of a JSON body.

    Raises:
        InvalidRequestError: the body is no JSON object, or one of the fields has a wrong type;
            `param` names the field.
    """
    try:
        return _ROUTING_FIELDS.decode(body)
    except msgspec.ValidationError as exc:
        raise _wrong_type(exc) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        if not body.strip():
            raise InvalidRequestError("the body is empty; a JSON object is expected") from exc
        raise InvalidRequestError(
            f"the body is not valid JSON: {exc}", code="json_parse_error"
        ) from exc


def _wrong_type(exc: msgspec.ValidationError) -> InvalidRequestError:
    message, _, path = str(exc).partition(" - at `$")
    field = path.strip("`.").partition("[")[0] or None
    if field is None:
        return InvalidRequestError(f"the body must be a JSON object: {message}")
    return InvalidRequestError(f"{field}: {message}", param=field)


def batch_size(fields: RoutingFields) -> int | None:
    """Return the number of prompts of a batch; None for a single prompt.

    Raises:
        InvalidRequestError: the batch is empty or larger than MAX_BATCH.
    """
    if fields.text is UNSET and fields.prompt is UNSET and fields.input_ids is UNSET:
        return None  # a chat is one prompt
    for name, raw in (("text", fields.text), ("prompt", fields.prompt)):
        if raw is not UNSET and bytes(raw).lstrip()[:1] == b"[":
            return _batch_of(name, raw)
    if fields.input_ids is not UNSET and (fields.text is UNSET or bytes(fields.text) == b"null"):
        return _batch_of("input_ids", fields.input_ids)
    return None


def _batch_of(name: str, raw: Raw) -> int | None:
    """Count the prompts of a list, which may also be one prompt given as token ids."""
    start = bytes(raw).lstrip()
    if start[:1] != b"[" or start[1:].lstrip()[:1] not in (b'"', b"[", b"]"):
        return None
    num_prompts = len(_ITEMS.decode(raw))
    if not 1 <= num_prompts <= MAX_BATCH:
        raise InvalidRequestError(
            f"{name}: a batch holds 1 to {MAX_BATCH} prompts, not {num_prompts}", param=name
        )
    return num_prompts


def num_samples(fields: RoutingFields) -> int:
    """Return how many answers are asked of each prompt (`n`); 1 unless asked otherwise.

    Raises:
        InvalidRequestError: `sampling_params` is no object or list of objects, or `n` no integer.
    """
    n = fields.n
    if n is None and fields.sampling_params is not UNSET:
        try:
            params = _SAMPLING_PARAMS.decode(fields.sampling_params)
        except msgspec.ValidationError as exc:
            raise InvalidRequestError(f"sampling_params: {exc}", param="sampling_params") from exc
        if isinstance(params, list):
            n = max((item.n or 1 for item in params), default=1)
        elif params is not None:
            n = params.n
    return max(1, n or 1)
