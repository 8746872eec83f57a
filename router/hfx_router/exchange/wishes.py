"""What a request asks the scheduler for."""

from msgspec import UNSET

from hfx_router.body.inspect import RoutingFields, batch_size
from hfx_router.estimates.output_limit import max_output_tokens
from hfx_router.estimates.tokenizer import PromptText
from hfx_router.scheduling.place import Wish
from hfx_sgl.slo import Slo


def make_wish(
    body: RoutingFields,
    headers: dict[bytes, bytes],
    *,
    request_id: bytes,
    model_id: str,
    class_name: str,
    started_s: float,
    slo: Slo,
    is_pd: bool,
) -> Wish:
    """Return it; who sends the same key in `authorization` is the same tenant."""
    key = headers.get(b"authorization")
    return Wish(
        request_id,
        model_id,
        class_name,
        started_s,
        slo,
        PromptText(body.prompt_json(), b"" if body.tools is UNSET else bytes(body.tools)),
        batch_size(body) is not None,
        max_output_tokens(body),
        bool(body.stream),
        is_pd,
        "" if key is None else key.decode("latin-1"),
    )
