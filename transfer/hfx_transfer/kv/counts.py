"""Tells an observer how hand-offs end."""

from concurrent.futures import Future
from typing import Any

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError
from hfx_transfer.observer import TransferKind, TransferObserver


def count_end(outcome: Future[Any], observer: TransferObserver, clock: Clock) -> None:
    """Have the end of a hand-off counted; its time begins here.

    Args:
        outcome: ends once, with a TransferError if the KV does not come.
        observer: told, by whoever ends it.
        clock: for how long it took.
    """
    began_at_s = clock.now_s()

    def ended(outcome: Future[Any]) -> None:
        error = outcome.exception()
        assert error is None or isinstance(error, TransferError)
        fault = None if error is None else error.fault
        observer.transfer_ended(TransferKind.KV, fault, clock.now_s() - began_at_s)

    outcome.add_done_callback(ended)
