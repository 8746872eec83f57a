"""What a complete answer says of its own length and its prompt's."""

from hfx_router.http1.sse_meter import SseMeter, WholeAnswer
from hfx_router.scheduling.place import AnswerFacts

_NOTHING = AnswerFacts(None, None)


def facts_of_stream(meter: SseMeter, num_extra_events: int) -> AnswerFacts:
    """Return those of an event stream, of which `num_extra_events` are no tokens."""
    return AnswerFacts(meter.num_output_tokens(num_extra_events), meter.num_stated_prompt_tokens)


def facts_of_answer(answer: WholeAnswer | SseMeter | None) -> AnswerFacts:
    """Return those of any other answer; None: nothing followed it."""
    if answer is None:
        return _NOTHING
    return AnswerFacts(answer.num_stated_tokens, answer.num_stated_prompt_tokens)
