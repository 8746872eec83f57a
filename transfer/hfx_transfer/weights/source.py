"""One source of a load: a thread that asks for its manifest, waits to be chosen, and pulls."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.observer import TransferObserver
from hfx_transfer.weights.board import ChunkBoard
from hfx_transfer.weights.control_client import ControlClient
from hfx_transfer.weights.engines import EngineSet
from hfx_transfer.weights.holding import Holding
from hfx_transfer.weights.lease_keeper import LeaseKeeper
from hfx_transfer.weights.manifest import Manifest
from hfx_transfer.weights.pulling import Pulling
from hfx_transfer.weights.route import Route
from hfx_transfer.weights.settings import LoadSettings
from hfx_transfer.weights.source_state import FINAL, SourceEvent, SourceState, next_state

_RETRY_S = 0.1

_WORTH_WAITING = frozenset({TransferFault.UNREACHABLE, TransferFault.PEER_FAILED})
"""What a source that is just starting answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all sources of a load have in common."""

    engines: EngineSet
    settings: LoadSettings
    clock: Clock
    observer: TransferObserver


class Source:
    """One source, in its own thread from `start` to `stop`.

    Args:
        client: how it is asked.
        surroundings: what it shares with the others.
        on_change: called from the thread after each change of state; must be quick.
    """

    def __init__(
        self, client: ControlClient, surroundings: Surroundings, on_change: Callable[[], object]
    ) -> None:
        self._client = client
        self._shared = surroundings
        self._on_change = on_change
        self._lock = threading.Lock()
        self._chosen = threading.Event()
        self._abort = threading.Event()
        self._is_stopped = False
        self._task: tuple[Holding, ChunkBoard] | None = None
        self._pulling: Pulling | None = None
        self._route: Route | None = None
        self._thread = threading.Thread(target=self._run, name="hfx-source", daemon=True)
        self._began_at_s = surroundings.clock.now_s()
        self.state = SourceState.CONTACTING
        self.manifest: Manifest | None = None
        self.error: TransferError | None = None
        """Why it failed; None unless it did."""

    @property
    def url(self) -> str:
        """Which one it is."""
        return self._client.url

    @property
    def client(self) -> ControlClient:
        """How it is asked."""
        return self._client

    @property
    def is_waited_for(self) -> bool:
        """Whether it has not answered yet and still has time to."""
        age_s = self._shared.clock.now_s() - self._began_at_s
        return self.state is SourceState.CONTACTING and age_s < self._shared.settings.source_wait_s

    @property
    def num_bytes(self) -> int:
        """Verified bytes that came from it."""
        return 0 if self._pulling is None else self._pulling.num_bytes

    @property
    def transport(self) -> str | None:
        """`backend (what moves the bytes in truth)`; None before anything was reached."""
        route = self._route
        if route is None or route.backend is None:
            return None
        return f"{route.backend} ({route.transport})"

    def start(self) -> None:
        """Ask for its manifest."""
        self._thread.start()

    def choose(self, holding: Holding, board: ChunkBoard) -> None:
        """Have it pull what the board deals out; it was READY."""
        self._task = (holding, board)
        self._move(SourceEvent.CHOSEN)
        self._chosen.set()

    def refuse(self, error: TransferError) -> None:
        """Leave it out because of what it holds; it was READY."""
        self._fail(error)
        self._chosen.set()

    def stop(self) -> None:
        """Have it end; nothing of it is under way afterwards, unless it says quarantined."""
        self._is_stopped = True
        self._abort.set()
        self._chosen.set()

    def wait_until_final(self) -> None:
        """Wait until nothing of it is under way; at once when nothing was begun."""
        if self._task is not None:
            self._thread.join()

    def join(self) -> None:
        """Wait for the end of its threads, which every limit in them bounds."""
        self._thread.join()
        if self._pulling is not None:
            self._pulling.join()

    def _run(self) -> None:
        try:
            self.manifest = self._contact()
            self._move(SourceEvent.ANSWERED)
            self._chosen.wait()
            if self._task is not None:
                self._pull(*self._task)
        except TransferError as exc:
            self._fail(exc)
        finally:
            if self.state not in FINAL:
                self._move(SourceEvent.LEFT_OUT)

    def _contact(self) -> Manifest:
        """Ask until it answers, or until there was time enough for it to start."""
        while True:
            try:
                return self._client.manifest()
            except TransferError as exc:
                if exc.fault not in _WORTH_WAITING or not self.is_waited_for:
                    raise
            if self._abort.wait(_RETRY_S):
                raise TransferError("not needed any more", fault=TransferFault.ABORTED)

    def _pull(self, holding: Holding, board: ChunkBoard) -> None:
        assert self.manifest is not None
        settings = self._shared.settings
        self._route = Route(
            self.manifest,
            self._shared.engines,
            settings.backends,
            first_contact_timeout_s=settings.first_contact_timeout_s,
        )
        self._pulling = Pulling(
            self.url,
            holding,
            board,
            self._route,
            self._make_keeper,
            settings,
            abort=self._abort,
            clock=self._shared.clock,
            observer=self._shared.observer,
        )
        self._pulling.run()
        if board.is_complete:
            self._move(SourceEvent.CONFIRMED)

    def _make_keeper(self, on_news: Callable[[], None]) -> LeaseKeeper:
        assert self.manifest is not None
        return LeaseKeeper(
            self._client,
            self.manifest,
            availability_wait_s=self._shared.settings.availability_wait_s,
            clock=self._shared.clock,
            on_news=on_news,
        )

    def _fail(self, error: TransferError) -> None:
        self.error = error
        self._move(SourceEvent.LEFT_OUT if self._is_stopped else SourceEvent.BROKE)

    def _move(self, event: SourceEvent) -> None:
        with self._lock:
            self.state = next_state(self.state, event)
        self._on_change()
