"""The sender's connections: one with each receiver, and the hand-offs that go over it.

Lives within one event loop. Whatever happens to the connection, each hand-off that may have begun
transfers is settled with the receiver: at once, or after a reconnect.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.kv.keepalive import keep_alive
from hfx_transfer.kv.layout import KvLayout
from hfx_transfer.kv.messages import (
    VERSION,
    Attach,
    Commit,
    FromReceiver,
    FromSender,
    GiveUp,
    Hello,
    Noted,
    Refused,
    Settled,
    Stop,
    TicketIssued,
    Verdict,
    Welcome,
    frame,
    read_from_receiver,
)
from hfx_transfer.kv.outgoing import OutgoingKv
from hfx_transfer.kv.pump import FlowEnd, Pump
from hfx_transfer.kv.sender_states import OutgoingEvent, OutgoingState, next_state
from hfx_transfer.kv.settings import HandoffSettings
from hfx_transfer.kv.target import target_of

Call = Callable[..., None]
"""Takes a function and its arguments."""

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


@dataclass(slots=True, kw_only=True, eq=False)
class _Handoff:
    kv: OutgoingKv
    state: OutgoingState = OutgoingState.ASKING
    is_known: bool = False
    """Whether the receiver may have given out a ticket for it."""
    is_clean: bool = True
    timer: asyncio.TimerHandle | None = None


class SenderLink:
    """Everything between this process and one receiver, until their connection breaks.

    Args:
        address: of the receiver's control port.
        layout: of the pool that the KV comes from.
        backend: of the pool's engine.
        life_port: where this process is to be found.
        call: has the event loop call a function; from any thread.
    """

    def __init__(
        self,
        address: tuple[str, int],
        pump: Pump,
        *,
        layout: KvLayout,
        backend: Backend,
        life_port: int,
        settings: HandoffSettings,
        clock: Clock,
        call: Call,
    ) -> None:
        self.address = address
        self.pump = pump
        self._layout = layout
        self._backend = backend
        self._life_port = life_port
        self._settings = settings
        self._clock = clock
        self._call = call
        # A link of its own to the receiver: another one may follow while this one settles.
        self._sender_id = secrets.token_hex(8)
        self._handoffs: dict[str, _Handoff] = {}
        self._owed: dict[str, Settled] = {}
        """What the receiver has to know and has not said that it knows."""
        self._writer: asyncio.StreamWriter | None = None
        """While the receiver has greeted us and the connection holds."""
        self._broke_at_s: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether it takes no more hand-offs."""
        return self._broke_at_s is not None

    @property
    def is_busy(self) -> bool:
        """Whether a hand-off is not over, or the receiver is just being told its end."""
        return bool(self._handoffs) or (self._writer is not None and bool(self._owed))

    def begin(self, kv: OutgoingKv) -> None:
        """Take a hand-off."""
        handoff = self._handoffs[kv.offer.handoff_id] = _Handoff(kv=kv)
        if self._writer is not None:
            self._ask(handoff)

    def stop(self, kv: OutgoingKv, error: TransferError) -> None:
        """Give a hand-off up from this side; nothing happens when it is over."""
        handoff = self._handoffs.get(kv.offer.handoff_id)
        if handoff is not None and handoff.state is not OutgoingState.STOPPING:
            if handoff.is_known:
                reason = GiveUp(
                    handoff_id=kv.offer.handoff_id, fault=error.fault, reason=str(error)
                )
                self._say(reason)
            self._stopped(handoff, error)

    def stop_all(self, error: TransferError) -> None:
        """Give every hand-off up."""
        for handoff in list(self._handoffs.values()):
            self.stop(handoff.kv, error)

    async def run(self) -> None:
        """Connect, and stay connected as long as that serves anybody."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await self._converse()
            except TransferError as error:
                self._broke(error)
            except (OSError, EOFError) as exc:
                # What the system says of a connection, and what its early end is for asyncio.
                host, port = self.address
                message = f"the connection to the receiver at {host}:{port} failed: {exc!r}"
                self._broke(TransferError(message, fault=_fault_of(exc)))
            if not self._is_to_return():
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _is_to_return(self) -> bool:
        """Whether the receiver has yet to be told something, and may still care."""
        assert self._broke_at_s is not None
        is_late = self._clock.now_s() - self._broke_at_s > self._settings.return_for_s
        return bool(self._handoffs or self._owed) and not is_late

    async def _converse(self) -> None:
        async with asyncio.timeout(self._settings.connect_timeout_s):
            reader, writer = await asyncio.open_connection(*self.address)
        try:
            keep_alive(writer)
            writer.write(frame(self._hello(writer)))
            async with asyncio.timeout(self._settings.greeting_timeout_s):
                answer = await read_from_receiver(reader)
            if isinstance(answer, Refused):
                raise TransferError(answer.reason, fault=answer.fault)
            if not isinstance(answer, Welcome):
                raise TransferError("no greeting came", fault=TransferFault.PROTOCOL)
            self._writer = writer
            for settled in self._owed.values():
                self._say(settled)
            for handoff in self._handoffs.values():
                if handoff.state is OutgoingState.ASKING:
                    self._ask(handoff)
            while True:
                self._take(await read_from_receiver(reader))
        finally:
            self._writer = None
            writer.close()

    def _hello(self, writer: asyncio.StreamWriter) -> Hello:
        return Hello(
            version=VERSION,
            token=self._settings.token,
            sender_id=self._sender_id,
            life_host=writer.get_extra_info("sockname")[0],
            life_port=self._life_port,
            layout=self._layout,
        )

    def _take(self, message: FromReceiver) -> None:
        match message:
            case Noted():
                self._owed.pop(message.handoff_id, None)
                return
            case Welcome() | Refused():
                raise TransferError("a second greeting", fault=TransferFault.PROTOCOL)
        handoff = self._handoffs.get(message.handoff_id)
        if handoff is None:
            return
        match message:
            case TicketIssued():
                self._ticket(handoff, message)
            case Stop():
                error = TransferError(message.reason, fault=message.fault)
                self._stopped(handoff, error)
            case Verdict():
                self._judged(handoff, message)

    def _ask(self, handoff: _Handoff) -> None:
        handoff.is_known = True
        self._say(Attach(handoff_id=handoff.kv.offer.handoff_id))

    def _ticket(self, handoff: _Handoff, ticket: TicketIssued) -> None:
        if handoff.state is not OutgoingState.ASKING:
            return
        self._move(handoff, OutgoingEvent.TICKET)
        if ticket.time_left_s is not None:
            error = TransferError("the time for the hand-off is over", fault=TransferFault.STALLED)
            handoff.timer = asyncio.get_running_loop().call_later(
                ticket.time_left_s, self.stop, handoff.kv, error
            )
        try:
            target = target_of(ticket, self._layout, self._backend, handoff.kv.offer.max_tokens)
        except TransferError as error:
            self.stop(handoff.kv, error)
            self._settle(handoff)
            return

        def ended(end: FlowEnd) -> None:
            self._call(self._written, handoff, end)

        self.pump.begin(handoff.kv.flow, target, ended)

    def _written(self, handoff: _Handoff, end: FlowEnd) -> None:
        """The pump has ended with a hand-off."""
        handoff.is_clean = end.is_clean
        if handoff.state is OutgoingState.PUSHING and end.error is None:
            self._commit(handoff, end)
            return
        if end.error is not None:
            self.stop(handoff.kv, end.error)
        if end.is_final:
            self._settle(handoff)
        else:
            handoff.kv.settled.set_exception(
                TransferError(
                    "transfers of the hand-off have not ended, and nobody will know when",
                    fault=TransferFault.STALLED,
                    quarantined=True,
                )
            )

    def _commit(self, handoff: _Handoff, end: FlowEnd) -> None:
        kv = handoff.kv
        self._move(handoff, OutgoingEvent.ALL_WRITTEN)
        commit = Commit(
            handoff_id=kv.offer.handoff_id,
            num_tokens=kv.num_tokens,
            metadata=kv.metadata,
            pieces=end.pieces,
        )
        try:
            self._say(commit)
        except ValueError as exc:
            # Half a million pieces: somebody pushes token by token.
            self.stop(kv, TransferError(f"too many pieces: {exc}", fault=TransferFault.PROTOCOL))

    def _judged(self, handoff: _Handoff, verdict: Verdict) -> None:
        if handoff.state is OutgoingState.COMMITTED and verdict.fault is None:
            self._move(handoff, OutgoingEvent.ACCEPTED)
            self._over(handoff, None)
        elif handoff.state in (OutgoingState.ASKING, OutgoingState.COMMITTED):
            self._move(handoff, OutgoingEvent.REFUSED)
            fault = verdict.fault or TransferFault.PROTOCOL
            self._over(handoff, TransferError(verdict.reason, fault=fault))

    def _stopped(self, handoff: _Handoff, error: TransferError) -> None:
        self._move(handoff, OutgoingEvent.STOPPED)
        if not handoff.kv.accepted.done():
            handoff.kv.accepted.set_exception(error)
        if handoff.state is OutgoingState.STOPPING:
            handoff.kv.flow.abort()
        else:
            self._owe(handoff)
            self._over(handoff, error)

    def _settle(self, handoff: _Handoff) -> None:
        self._move(handoff, OutgoingEvent.SETTLED)
        self._owe(handoff)
        self._over(handoff, None)

    def _owe(self, handoff: _Handoff) -> None:
        """Let the receiver know that nothing is under way."""
        if handoff.is_known:
            handoff_id = handoff.kv.offer.handoff_id
            settled = Settled(handoff_id=handoff_id, is_clean=handoff.is_clean)
            self._owed[handoff_id] = settled
            self._say(settled)

    def _over(self, handoff: _Handoff, error: TransferError | None) -> None:
        kv = handoff.kv
        if handoff.timer is not None:
            handoff.timer.cancel()
        del self._handoffs[kv.offer.handoff_id]
        if not kv.accepted.done():
            if error is None:
                kv.accepted.set_result(None)
            else:
                kv.accepted.set_exception(error)
        kv.settled.set_result(None)

    def _broke(self, error: TransferError) -> None:
        """The connection has ended: nothing goes on without it."""
        if self._broke_at_s is None:
            self._broke_at_s = self._clock.now_s()
        for handoff in list(self._handoffs.values()):
            if handoff.state is not OutgoingState.STOPPING:
                self._stopped(handoff, error)

    def _move(self, handoff: _Handoff, event: OutgoingEvent) -> None:
        handoff.state = next_state(handoff.state, event)

    def _say(self, message: FromSender) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(frame(message))


def _fault_of(exc: OSError | EOFError) -> TransferFault:
    if isinstance(exc, TimeoutError):
        return TransferFault.FIRST_CONTACT_TIMEOUT
    if isinstance(exc, EOFError | ConnectionResetError | BrokenPipeError):
        return TransferFault.PEER_FAILED
    return TransferFault.UNREACHABLE
