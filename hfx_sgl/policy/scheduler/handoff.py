"""How long the way from a computed prompt to its first token is, with prefill and decode apart."""

from collections import deque
from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

from hfx_sgl.policy.latency.transfer import TransferModel

_PRIOR_BYTES_PER_TOKEN = 125e3
_NUM_RATIOS = 9
_FIRST_JOIN_S = 0.015
_RATE = 0.02
"""About the last fifty observations count."""


class SeenHandoff(NamedTuple):
    """One hand-off that a worker has told of."""

    predicted_s: float
    """What was expected of its size before."""
    observed_s: float


class Handoff:
    """Learns the lag until the prefill worker answers, and from there to the first token.

    A prefill worker answers when the KV of a prompt has arrived elsewhere; by then it has begun
    the next prompt. How long the KV is under way depends on the class of the decode worker.

    Args:
        transfer: what is asked where the decode worker is not known, or has left.
    """

    __slots__ = (
        "_bytes_per_token", "_join_deviation_s", "_join_s", "_ratios", "_transfer", "_transfers",
    )  # fmt: skip

    def __init__(self, transfer: TransferModel) -> None:
        self._transfer = transfer
        self._transfers: tuple[TransferModel, ...] = (transfer,)
        self._ratios: deque[float] = deque(maxlen=_NUM_RATIOS)
        self._bytes_per_token = _PRIOR_BYTES_PER_TOKEN
        self._join_s = _FIRST_JOIN_S
        self._join_deviation_s = 0.0

    def set_classes(self, transfers: Iterable[TransferModel]) -> None:
        """These are the models of the decode workers that there are; none: nobody knows."""
        self._transfers = tuple(dict.fromkeys(transfers)) or (self._transfer,)

    def lag_s(self, num_tokens: int, transfer: TransferModel | None = None) -> float:
        """Return the time from the end of a prefill to the answer of its worker.

        `transfer` is the model of the decode worker; None: it is not known.
        """
        num_bytes = round(num_tokens * self._bytes_per_token)
        return (transfer or self._transfer).predict_s(num_bytes)

    def until_first_token_s(self, num_tokens: int) -> float:
        """Return the time from the end of a prefill to the first token, most often.

        Asked before the decode worker is chosen: with several classes, of the slowest.
        """
        num_bytes = round(num_tokens * self._bytes_per_token)
        lag_s = max([transfer.predict_s(num_bytes) for transfer in self._transfers])
        return lag_s + self._join_s + self._join_deviation_s

    def observe_transfer(
        self,
        num_bytes: int,
        duration_s: float,
        num_tokens: int,
        transfer: TransferModel | None = None,
    ) -> SeenHandoff:
        """Learn from a hand-off that a worker reports, of the prompt that it answered last.

        Now and then that is another prompt's, hence the median. `transfer` is the model of the
        decode worker; None: it is not known.
        """
        transfer = transfer or self._transfer
        seen = SeenHandoff(transfer.predict_s(num_bytes), duration_s)
        transfer.observe(num_bytes, duration_s)
        self._ratios.append(num_bytes / num_tokens)
        self._bytes_per_token = median(self._ratios)
        return seen

    def observe_join(self, join_s: float) -> None:
        """Learn from the time between the prefill worker's answer and the first token."""
        error_s = join_s - self._join_s
        self._join_s += _RATE * error_s
        self._join_deviation_s += _RATE * (abs(error_s) - self._join_deviation_s)
