"""Notices that a source has gone silent while servers start from it."""

from collections.abc import Mapping

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError
from hfx_sgl.launch.plan import InstancePlan
from hfx_transfer.sglang.weights.http_json import ask_json

_INTERVAL_S = 2.0
_ANSWER_S = 1.0
"""What one look may cost whoever waits for servers and looks in between."""


class SourceWatch:
    """Says whom to give up on. SGLang's loader waits for its source without any limit.

    Args:
        source_urls: by the name of each server that starts, from where.
        silence_timeout_s: after how long without an answer a source is lost.
    """

    def __init__(
        self, source_urls: Mapping[str, str], *, silence_timeout_s: float, clock: Clock
    ) -> None:
        self._source_urls = source_urls
        self._silence_timeout_s = silence_timeout_s
        self._clock = clock
        now_s = clock.now_s()
        self._answered_at_s = dict.fromkeys(source_urls.values(), now_s)
        self._asked_at_s = dict(self._answered_at_s)

    def __call__(self, server: InstancePlan) -> str | None:
        """Return why there is no point in waiting for a server; None while there is."""
        url = self._source_urls[server.name]
        self._ask(url)
        if self._clock.now_s() - self._answered_at_s[url] <= self._silence_timeout_s:
            return None
        return f"its source {url} has not answered for {self._silence_timeout_s:g} s"

    def _ask(self, url: str) -> None:
        if self._clock.now_s() - self._asked_at_s[url] < _INTERVAL_S:
            return
        try:
            ask_json(url, "/model_info", timeout_s=_ANSWER_S)
        except TransferError:
            answered = False
        else:
            answered = True
        self._asked_at_s[url] = self._clock.now_s()
        if answered:
            self._answered_at_s[url] = self._asked_at_s[url]
