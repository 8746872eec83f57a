"""Takes prompts to the engine and, in prefill and decode workers, to their other side."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from hfx_sgl.clock import Clock, unix_time_s
from hfx_sgl.emulator.driver import EngineDriver, Listener
from hfx_sgl.emulator.failures import Failure, ValueRefused
from hfx_sgl.emulator.kv.protocol import KvMover
from hfx_sgl.emulator.kv.sending import RealSending
from hfx_sgl.emulator.pd.decode_links import Address, DecodeLinks
from hfx_sgl.emulator.pd.handoffs import DecodeHandoff, PrefillHandoff, RealDecodeHandoff
from hfx_sgl.emulator.pd.prefill_rooms import PrefillRooms
from hfx_sgl.emulator.sequence import Ask, Sequence
from hfx_sgl.engine.events import FinishReason
from hfx_sgl.engine.refusal import EngineRefusal, RefusalReason
from hfx_sgl.types import Role

_STATUSES = {
    RefusalReason.NOT_READY: HTTPStatus.SERVICE_UNAVAILABLE,
    RefusalReason.QUEUE_FULL: HTTPStatus.SERVICE_UNAVAILABLE,
    RefusalReason.TOO_LONG: HTTPStatus.BAD_REQUEST,
    RefusalReason.DUPLICATE: HTTPStatus.BAD_REQUEST,
}

OnUpdate = Callable[[int, Sequence], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffTimes:
    """How patient a worker is with its other side. Defaults as SGLang's, but for the first."""

    dead_peer_delay_s: float = 1.0
    """From a prefill's end until its decode side answers 500; SGLang takes about 11 s."""
    bootstrap_timeout_s: float = 300.0
    """How long a prefill worker waits for the decode side."""
    waiting_timeout_s: float = 300.0
    """How long a decode worker waits for the KV."""


class Desk:
    """Owns the sequences of a worker.

    Args:
        on_end: told of each sequence that has ended.
        observe_gap: told of the time between tokens, see Sequence.
        misfit: told what is wrong with a prefill worker, see DecodeLinks.
        page_tokens: of the worker's KV.
    """

    def __init__(
        self,
        driver: EngineDriver,
        *,
        clock: Clock,
        times: HandoffTimes,
        on_end: Callable[[Sequence], None],
        observe_gap: Callable[[float, int], None],
        misfit: Callable[[str], None],
        page_tokens: int,
    ) -> None:
        self._driver = driver
        self._clock = clock
        self._times = times
        self._on_end = on_end
        self._observe_gap = observe_gap
        self._sequences: dict[str, Sequence] = {}
        self._rids_by_room: dict[int, str] = {}
        """Decode role: who waits in which room."""
        self.mover: KvMover | None = None
        """Moves real bytes in each hand-off; None: their time is modelled, and that is all. To be
        set before the first request."""
        self.rooms = PrefillRooms(self._granted, self._gone)
        self._links = DecodeLinks(
            arrived=self._arrived,
            failed=self._transfer_failed,
            misfit=misfit,
            page_tokens=page_tokens,
            dead_peer_delay_s=times.dead_peer_delay_s,
        )

    @property
    def sequences(self) -> tuple[Sequence, ...]:
        """Those that have not ended."""
        return tuple(self._sequences.values())

    async def close(self) -> None:
        """End everything."""
        self.abort_all()
        await self._links.close()

    def check_rids(self, asks: Iterable[Ask]) -> None:
        """Refuse ids that are in use.

        Raises:
            ValueRefused: one of them is.
        """
        for ask in asks:
            if ask.rid in self._sequences:
                raise ValueRefused(f"Duplicate request ID detected: {ask.rid}")

    def begin(self, asks: list[Ask], on_update: OnUpdate | None = None) -> list[Sequence]:
        """Start to compute; the sequences tell the rest.

        Args:
            on_update: called with the position and the sequence after each change.

        Raises:
            ValueRefused: an id is in use; nothing has begun then.
        """
        self.check_rids(asks)
        return [
            self._begin(ask, partial(on_update, at) if on_update else None)
            for at, ask in enumerate(asks)
        ]

    def leave(self, sequences: Iterable[Sequence]) -> None:
        """Nobody waits for these any longer: end those that have not ended."""
        for sequence in sequences:
            if not sequence.is_ended:
                sequence.on_update = None
                self._abort(sequence)

    def abort(self, rid: str) -> None:
        """End the request with this id; nothing happens when there is none."""
        sequence = self._sequences.get(rid)
        if sequence is not None:
            self._abort(sequence)

    def abort_all(self) -> None:
        """End every request."""
        for sequence in list(self._sequences.values()):
            self._abort(sequence)

    def _begin(self, ask: Ask, on_update: Callable[[Sequence], None] | None) -> Sequence:
        role = self._driver.role
        sequence = Sequence(
            ask,
            role,
            clock=self._clock,
            unix_s=unix_time_s(),
            observe_gap=self._observe_gap,
        )
        sequence.on_update = on_update
        problem = self._room_problem(ask, role)
        if problem is not None:
            sequence.fail(Failure(HTTPStatus.BAD_REQUEST, problem))
            return sequence
        self._sequences[ask.rid] = sequence
        sequence.on_end = self._ended
        listener = self._join(sequence)
        try:
            self._driver.submit(sequence.request, listener)
        except EngineRefusal as exc:
            is_early = exc.reason is RefusalReason.QUEUE_FULL
            sequence.fail(Failure(_STATUSES[exc.reason], str(exc), is_early=is_early))
            return sequence
        self._meet(sequence)
        return sequence

    def _join(self, sequence: Sequence) -> Listener:
        """Give a sequence its part in a hand-off; return who is to listen to the engine."""
        ask = sequence.ask
        if sequence.role is Role.PREFILL:
            handoff = PrefillHandoff(self.rooms, _room_number(ask))
            sequence.handoff = handoff
            if self.mover is not None:
                fail = partial(self._fail_handoff, ask.rid)
                handoff.sending = RealSending(sequence, self.mover, fail=fail)
                return handoff.sending
        elif sequence.role is Role.DECODE:
            sequence.handoff = self._decode_handoff(ask)
            self._rids_by_room[_room_number(ask)] = ask.rid
        return sequence

    def _decode_handoff(self, ask: Ask) -> DecodeHandoff:
        if self.mover is None:
            return DecodeHandoff(self._links, _address(ask), _room_number(ask))
        return RealDecodeHandoff(
            self._links,
            _address(ask),
            _room_number(ask),
            mover=self.mover,
            num_tokens=ask.num_prompt_tokens,
            on_end=self._bytes_ended,
        )

    def _meet(self, sequence: Sequence) -> None:
        if sequence.role is Role.REGULAR or sequence.is_ended:
            return
        if sequence.role is Role.PREFILL:
            timeout_s = self._times.bootstrap_timeout_s
            self.rooms.enter(_room_number(sequence.ask), sequence.ask.rid)
        else:
            timeout_s = self._times.waiting_timeout_s
        timer = asyncio.get_running_loop().call_later(timeout_s, self._give_up, sequence)
        sequence.ended.add_done_callback(lambda _: timer.cancel())

    def _room_problem(self, ask: Ask, role: Role) -> str | None:
        if role is Role.REGULAR:
            return None
        room = ask.room
        if room is None:
            return (
                "Invalid request: Disaggregated request received without bootstrap room id. "
                f"req.rid={ask.rid!r}"
            )
        if role is Role.PREFILL:
            return (
                f"bootstrap_room {room.number} is in use" if self.rooms.has(room.number) else None
            )
        if room.host is None or room.port is None:
            # The real server's scheduler dies of it.
            return "a decode worker needs bootstrap_host and bootstrap_port beside the room"
        if room.number in self._rids_by_room:
            return f"bootstrap_room {room.number} is in use"
        return None

    def _ended(self, sequence: Sequence) -> None:
        self._sequences.pop(sequence.ask.rid, None)
        if sequence.role is Role.DECODE:
            self._rids_by_room.pop(_room_number(sequence.ask), None)
        self._on_end(sequence)

    def _granted(self, rid: str, offer: str | None) -> None:
        sequence = self._sequences[rid]
        if (offer is None) != (self.mover is None):
            sequence.handoff_cause = "only one of the two workers moves real KV"
            self._fail_handoff(rid)
            return
        sequence.is_granted = True
        if offer is not None and (sending := _sending(sequence)) is not None:
            sending.granted(offer)
        self._driver.kv_granted(rid)

    def _gone(self, rid: str) -> None:
        self._fail_handoff(rid)

    def _give_up(self, sequence: Sequence) -> None:
        if not sequence.is_granted:
            self._driver.handoff_failed(sequence.ask.rid)

    def _abort(self, sequence: Sequence) -> None:
        self._driver.abort(sequence.ask.rid)
        if (sending := _sending(sequence)) is not None:
            sending.end(FinishReason.ABORTED)

    def _fail_handoff(self, rid: str) -> None:
        """The hand-off of a request has failed, whether or not the engine still has it."""
        sequence = self._sequences[rid]
        self._driver.handoff_failed(rid)
        if (sending := _sending(sequence)) is not None:
            sending.end(FinishReason.HANDOFF_FAILED)

    def _arrived(self, room: int, num_cached_tokens: int) -> None:
        rid = self._rids_by_room.get(room)
        if rid is not None:
            sequence = self._sequences[rid]
            sequence.num_handed_cached_tokens = num_cached_tokens
            if isinstance(sequence.handoff, DecodeHandoff):
                sequence.handoff.announced()
            self._go_on(sequence)

    def _bytes_ended(self, room: int, problem: str | None) -> None:
        rid = self._rids_by_room.get(room)
        if rid is None:
            return
        sequence = self._sequences[rid]
        if problem is None:
            self._go_on(sequence)
        else:
            sequence.handoff_cause = problem
            # No sooner than the real one notices, whose hand-off tells it nothing.
            asyncio.get_running_loop().call_later(
                self._times.dead_peer_delay_s, self._transfer_failed, room, "Decode transfer"
            )

    def _go_on(self, sequence: Sequence) -> None:
        """Let the engine decode, once everything is here."""
        if isinstance(sequence.handoff, DecodeHandoff) and sequence.handoff.has_arrived:
            self._driver.kv_arrived(sequence.ask.rid)

    def _transfer_failed(self, room: int, stage: str) -> None:
        rid = self._rids_by_room.get(room)
        if rid is not None:
            self._sequences[rid].handoff_problem = stage
            self._driver.handoff_failed(rid)


def _sending(sequence: Sequence) -> RealSending | None:
    handoff = sequence.handoff
    return handoff.sending if isinstance(handoff, PrefillHandoff) else None


def _room_number(ask: Ask) -> int:
    assert ask.room is not None
    return ask.room.number


def _address(ask: Ask) -> Address:
    assert ask.room is not None
    assert ask.room.host is not None
    assert ask.room.port is not None
    return ask.room.host, ask.room.port
