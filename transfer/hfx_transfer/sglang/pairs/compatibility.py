"""Whether a prefill and a decode server of SGLang can exchange KV. Pure.

SGLang 0.5.23 compares the two when a decode server meets a prefill server for the first time, and
the decode scheduler dies of most differences: one request to such a pair takes the decode server
down. So the router looks first. What a server does not say is taken to be right, with a note.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hfx_transfer.sglang.pairs.facts import PairingFacts

AUTO = "auto"

_BACKEND_ALIASES = {"mooncake_tcp": "mooncake"}
"""The former is the latter with TCP forced; SGLang itself renames it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a pair can be used, as far as is known."""

    problem: str = ""
    """Why it cannot, one sentence; empty when it can."""
    notes: tuple[str, ...] = ()
    """What could not be compared, or differs without being in the way."""

    @property
    def is_compatible(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.problem


def judge(prefill: PairingFacts, decode: PairingFacts) -> Verdict:
    """Return whether KV can go from one server to the other."""
    problems = [problem for rule in _RULES for problem in rule(prefill, decode)]
    notes = [note for remark in _REMARKS for note in remark(prefill, decode)]
    return Verdict(problem="; ".join(problems), notes=tuple(notes))


def _model(prefill: PairingFacts, decode: PairingFacts) -> Iterator[str]:
    p, d = prefill.server, decode.server
    if _differ(p.architectures, d.architectures) or _differ(p.model_type, d.model_type):
        yield _difference("architectures", p.architectures, d.architectures)
    elif _differ(p.served_model_name, d.served_model_name) and _differ(p.model_path, d.model_path):
        # One and the same model may lie in different folders, or go by different names.
        yield _difference("served_model_name", p.served_model_name, d.served_model_name)


def _backend(prefill: PairingFacts, decode: PairingFacts) -> Iterator[str]:
    p, d = prefill.server.transfer_backend, decode.server.transfer_backend
    if p is None or d is None:
        return
    if _BACKEND_ALIASES.get(p, p) != _BACKEND_ALIASES.get(d, d):
        yield _difference("disaggregation_transfer_backend", p, d)


def _page_size(prefill: PairingFacts, decode: PairingFacts) -> Iterator[str]:
    if _has_decode_context_parallelism(prefill, decode):
        return  # pages of the pool are not those of the flag then
    p = prefill.server.page_size
    if prefill.route is not None and prefill.route.page_size is not None:
        p = prefill.route.page_size
    if _differ(p, decode.server.page_size):
        yield _difference("page_size", p, decode.server.page_size)


def _kv_dtype(prefill: PairingFacts, decode: PairingFacts) -> Iterator[str]:
    """Compare as SGLang does, by name.

    The decode server's own name is known as configured only: `auto` may have become what the
    checkpoint asks for, which is always some kind of fp8 or fp4, and otherwise stays `auto`.
    """
    configured, d = prefill.server.kv_cache_dtype, decode.server.kv_cache_dtype
    p = configured
    if prefill.route is not None and prefill.route.kv_cache_dtype is not None:
        p = prefill.route.kv_cache_dtype
    if p is None or d is None or d in (p, configured):
        return
    if d != AUTO or not _may_be_chosen_by_checkpoint(p):
        yield _difference("kv_cache_dtype", p, d)


def _tensor_parallelism(prefill: PairingFacts, decode: PairingFacts) -> Iterator[str]:
    p, d = _prefill_attn_tp(prefill), decode.server.attn_tp_size
    if p is None or d is None or p % d == 0 or d % p == 0:
        return
    yield (
        f"attention is split over {p} ranks in the prefill server and over {d} in the decode "
        "server; one number must divide the other"
    )


def _pipeline(prefill: PairingFacts, decode: PairingFacts) -> Iterator[str]:
    p, d = prefill.server.pp_size, decode.server.pp_size
    if prefill.route is not None and prefill.route.pp_size is not None:
        p = prefill.route.pp_size
    if p is not None and d is not None and d not in (1, p):
        yield f"pp_size: a decode server needs 1 or its prefill server's {p}, not {d}"


def _context_parallelism(prefill: PairingFacts, decode: PairingFacts) -> Iterator[str]:
    d = decode.server.attn_cp_size
    if d is not None and d != 1:
        yield f"attn_cp_size: a decode server needs 1, not {d}"


def _allocation_policy(prefill: PairingFacts, decode: PairingFacts) -> Iterator[str]:
    p, d = prefill.server.allocation_policy, decode.server.allocation_policy
    if prefill.route is not None and prefill.route.allocation_policy is not None:
        p = prefill.route.allocation_policy
    if _differ(p, d):
        yield _difference("disaggregation_decode_allocation_policy", p, d)


_Rule = Callable[[PairingFacts, PairingFacts], Iterator[str]]

_RULES: tuple[_Rule, ...] = (
    _model,
    _backend,
    _page_size,
    _kv_dtype,
    _tensor_parallelism,
    _pipeline,
    _context_parallelism,
    _allocation_policy,
)


def _unknown(prefill: PairingFacts, decode: PairingFacts) -> Iterator[str]:
    if prefill.route_problem:
        yield f"the bootstrap server did not tell its facts ({prefill.route_problem})"
    for role, facts in (("prefill", prefill), ("decode", decode)):
        missing = [
            name
            for name in ("page_size", "kv_cache_dtype", "transfer_backend", "tp_size")
            if getattr(facts.server, name) is None
        ]
        if missing:
            yield f"the {role} server does not tell its {', '.join(missing)}"


def _versions(prefill: PairingFacts, decode: PairingFacts) -> Iterator[str]:
    for name, what in (
        ("version", "SGLang versions differ"),
        ("weight_version", "weight versions differ"),
    ):
        p, d = getattr(prefill.server, name), getattr(decode.server, name)
        if _differ(p, d):
            yield f"{what}: prefill {p}, decode {d}"


def _unequal_split(prefill: PairingFacts, decode: PairingFacts) -> Iterator[str]:
    p, d = _prefill_attn_tp(prefill), decode.server.attn_tp_size
    if _differ(p, d):
        yield f"attention is split over {p} ranks here and {d} there: KV is re-cut on the way"


def _unresolved_dtype(prefill: PairingFacts, decode: PairingFacts) -> Iterator[str]:
    p = prefill.route.kv_cache_dtype if prefill.route is not None else None
    d = decode.server.kv_cache_dtype
    if d == AUTO and p not in (None, AUTO) and prefill.server.kv_cache_dtype != AUTO:
        yield f"kv_cache_dtype: prefill {p}, and what the decode server's auto means is not told"


_REMARKS: tuple[_Rule, ...] = (_unknown, _versions, _unequal_split, _unresolved_dtype)


def _prefill_attn_tp(prefill: PairingFacts) -> int | None:
    route = prefill.route
    if route is not None and route.attn_tp_size is not None:
        return route.attn_tp_size
    return prefill.server.attn_tp_size


def _has_decode_context_parallelism(*sides: PairingFacts) -> bool:
    return any((side.server.dcp_size or 1) > 1 for side in sides)


def _may_be_chosen_by_checkpoint(dtype: str) -> bool:
    return "fp8" in dtype or "fp4" in dtype


def _differ(one: object, other: object) -> bool:
    return one is not None and other is not None and one != other


def _difference(name: str, prefill: object, decode: object) -> str:
    return f"{name}: prefill {_shown(prefill)}, decode {_shown(decode)}"


def _shown(value: object) -> str:
    return "+".join(value) if isinstance(value, tuple) else str(value)
