"""`/generate`: the native endpoint. Each event repeats all of the output so far."""

from http import HTTPStatus
from typing import Any

from hfx_sgl.clock import Clock
from hfx_sgl.emulator import tokens
from hfx_sgl.emulator.api import fields
from hfx_sgl.emulator.api.asks import Limits, PromptText, make_asks
from hfx_sgl.emulator.api.call import event
from hfx_sgl.emulator.api.logprobs import LogprobOptions, chosen_entries, entries, top_entries
from hfx_sgl.emulator.api.meta import meta_info
from hfx_sgl.emulator.api.sampling import Sampling, read_native
from hfx_sgl.emulator.failures import BodyError, Json, ValueRefused
from hfx_sgl.emulator.sequence import Sequence
from hfx_sgl.types import Role
from hfx_sgl.workload.prompt_text import TOKEN_BYTES


class GenerateShape:
    """The answers to one body. See call.Shape.

    Raises:
        BodyError: the body does not fit the schema.
        ValueRefused: a value cannot be served.
    """

    def __init__(self, body: Json, limits: Limits, clock: Clock) -> None:
        prompts, self._is_list = _prompts(body)
        self.streams = fields.flag(body, "stream")
        self.asks = make_asks(body, prompts, limits)
        self._is_list |= len(self.asks) > 1
        self._logprobs = _logprob_options(body)
        self._clock = clock
        self._states = [_Output() for _ in self.asks]

    def events(self, index: int, sequence: Sequence) -> bytes:
        """See call.Shape."""
        answer = self._answer(index, sequence)
        if self._is_list:
            answer["index"] = index
        return event(answer)

    def last_events(self, sequences: list[Sequence]) -> bytes:
        """See call.Shape."""
        return b""

    def whole(self, sequences: list[Sequence]) -> tuple[HTTPStatus, Json | list[Json]]:
        """See call.Shape."""
        for sequence in sequences:
            if sequence.failure is not None:
                return sequence.failure.status, sequence.failure.native_json()
        answers = [self._answer(at, sequence) for at, sequence in enumerate(sequences)]
        return HTTPStatus.OK, answers if self._is_list else answers[0]

    def _answer(self, index: int, sequence: Sequence) -> Json:
        state = self._states[index]
        is_first = state.num_tokens == 0
        state.extend(sequence)
        logprobs = {} if self._logprobs is None else self._logprob_fields(sequence, state)
        return {
            "text": state.text,
            "output_ids": state.ids,
            "meta_info": meta_info(sequence, logprobs, self._clock.now_s(), is_first=is_first),
        }

    def _logprob_fields(self, sequence: Sequence, state: "_Output") -> Json:
        options = self._logprobs
        assert options is not None
        prompt = b""
        if options.start is not None and sequence.role is not Role.DECODE:
            # A decode worker has not computed the prompt.
            prompt = sequence.ask.data[options.start * TOKEN_BYTES :]
        output = sequence.output(0, state.num_tokens)
        has_text = options.has_text
        found: dict[str, Any] = {
            "input_token_logprobs": entries(prompt, has_text=has_text, skips_first=True),
            "output_token_logprobs": entries(output, has_text=has_text),
            "output_token_logprobs_length": state.num_tokens,
        }
        if options.num_top:
            found["input_top_logprobs"] = top_entries(
                prompt, options.num_top, has_text=has_text, skips_first=True
            )
            found["output_top_logprobs"] = top_entries(output, options.num_top, has_text=has_text)
        if options.token_ids is not None:
            # Those of the first token do not come with the hand-off.
            is_handed = sequence.role is Role.DECODE
            found["input_token_ids_logprobs"] = chosen_entries(
                prompt, options.token_ids, has_text=has_text, skips_first=True
            )
            found["output_token_ids_logprobs"] = chosen_entries(
                output, options.token_ids, has_text=has_text, skips_first=is_handed
            )
        return found


class _Output:
    """What has been said of one sequence."""

    def __init__(self) -> None:
        self.num_tokens = 0
        self.ids: list[int] = []
        self.text = ""

    def extend(self, sequence: Sequence) -> None:
        data = sequence.output(self.num_tokens, sequence.num_tokens)
        self.ids += tokens.token_ids(data)
        self.text += tokens.decode(data)
        self.num_tokens = sequence.num_tokens


def _prompts(body: Json) -> tuple[list[PromptText], bool]:
    """Return the prompts of a body, and whether it is a batch."""
    text, ids = body.get("text"), body.get("input_ids")
    if text is not None:
        is_list = isinstance(text, list)
        texts = text if is_list else [text]
        if not all(isinstance(item, str) for item in texts):
            raise BodyError("body.text: must be a string or a list of strings")
        # Where both are given, the real server takes the ids for tokens of the text.
        data = [tokens.encode(item) for item in texts]
    elif ids is not None:
        if not isinstance(ids, list):
            raise BodyError("body.input_ids: must be a list of whole numbers, or of such lists")
        is_list = bool(ids) and isinstance(ids[0], list)
        data = [encode_ids("input_ids", item) for item in (ids if is_list else [ids])]
        texts = [tokens.decode(item) for item in data]
        if not all(data):
            raise ValueRefused("input_ids cannot be empty.")
    else:
        raise ValueRefused("Either text, input_ids or input_embeds should be provided.")
    samplings = _samplings(body, len(data))
    found = [
        PromptText(data=item, text=words, sampling=sampling)
        for item, words, sampling in zip(data, texts, samplings, strict=True)
    ]
    return found, is_list


def encode_ids(name: str, ids: Any) -> bytes:
    """Return the tokens of a list of ids in a body.

    Raises:
        BodyError: it is no list of whole numbers.
        ValueRefused: a number is no token.
    """
    if not isinstance(ids, list) or not all(fields.is_whole(item) for item in ids):
        raise BodyError(f"body.{name}: must be a list of whole numbers")
    try:
        return tokens.encode_ids(ids)
    except ValueError as exc:
        raise ValueRefused(str(exc)) from exc


def _samplings(body: Json, num_prompts: int) -> list[Sampling]:
    value = body.get("sampling_params")
    if not isinstance(value, list):
        return [read_native(value)] * num_prompts
    if len(value) != num_prompts:
        raise ValueRefused(f"sampling_params must have {num_prompts} entries, got {len(value)}.")
    return [read_native(item) for item in value]


def _logprob_options(body: Json) -> LogprobOptions | None:
    if not fields.flag(body, "return_logprob"):
        return None
    start = fields.whole(body, "logprob_start_len")
    ids = body.get("token_ids_logprob")
    if ids is not None and not (isinstance(ids, list) and all(map(fields.is_whole, ids))):
        raise BodyError("body.token_ids_logprob: must be a list of whole numbers")
    return LogprobOptions(
        start=None if start is None or start < 0 else start,
        num_top=fields.whole(body, "top_logprobs_num") or 0,
        token_ids=None if ids is None else tuple(ids),
        has_text=fields.flag(body, "return_text_in_logprobs"),
    )
