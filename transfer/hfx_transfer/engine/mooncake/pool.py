"""Lends links to peers and takes them back. No link is ever destroyed."""

import threading
from collections.abc import Callable

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.mooncake.link import Link

MAX_LINKS = 64
"""Each has two threads, five descriptors and two ports; a silent peer occupies one for 61 s."""

REST_S = 5.0
"""How long a link rests after a failure: it reconnects to the same peer after 1 s at the earliest,
and transfers that follow a failure closely fail now and then for no other reason."""


class LinkPool:
    """All links of one engine.

    A link that is idle goes to the session that it was lent to last, as its connections are still
    open. One that has failed rests, and goes to that session again only when there is no other: it
    may remember a process that is gone. Blocked ones are left alone until their contact returns.

    Args:
        create: makes a link.
        clock: for the rest after failures.
    """

    def __init__(self, create: Callable[[], Link], clock: Clock) -> None:
        self._create = create
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: list[Link] = []
        """Least recently used first."""
        self._resting: list[tuple[float, Link]] = []
        """With the instant from which each can be lent again."""
        self._blocked: list[Link] = []
        self._num_links = 0

    @property
    def num_links(self) -> int:
        """How many were made."""
        return self._num_links

    def acquire(self, session: str, *, fresh: bool = False) -> Link:
        """Lend a link for a session.

        Args:
            session: of the peer.
            fresh: whether one is wanted that has not been in contact with that session.

        Raises:
            TransferError: all there may be are in use or wait for silent peers (unavailable).
        """
        with self._lock:
            self._wake()
            is_full = self._num_links >= MAX_LINKS
            link = self._choose(session, fresh=fresh, is_full=is_full)
            if link is not None:
                self._idle.remove(link)
                return link
            if is_full:
                raise TransferError(
                    f"all {MAX_LINKS} Mooncake engines are in use or wait for silent peers",
                    fault=TransferFault.UNAVAILABLE,
                )
            self._num_links += 1
        try:
            return self._create()
        except TransferError:
            with self._lock:
                self._num_links -= 1
            raise

    def give_back(self, link: Link) -> None:
        """Take a link back in good order."""
        with self._lock:
            if link.session not in link.sessions_seen:
                link.session = None
            self._idle.append(link)

    def rest(self, link: Link) -> None:
        """Take a link back that had a failure, with no transfer under way."""
        with self._lock:
            self._put_to_rest(link)

    def abandon(self, link: Link) -> None:
        """Take a link back whose contact has not returned."""
        with self._lock:
            self._blocked.append(link)

    def _put_to_rest(self, link: Link) -> None:
        link.session = None
        self._resting.append((self._clock.now_s() + REST_S, link))

    def _wake(self) -> None:
        for link in [link for link in self._blocked if not link.is_blocked]:
            self._blocked.remove(link)
            self._put_to_rest(link)
        now_s = self._clock.now_s()
        for at_s, link in [entry for entry in self._resting if entry[0] <= now_s]:
            self._resting.remove((at_s, link))
            self._idle.insert(0, link)

    def _choose(self, session: str, *, fresh: bool, is_full: bool) -> Link | None:
        """Return the idle link to lend; None when another one is to be made."""
        warm = [link for link in self._idle if link.session == session]
        if warm and not fresh:
            return warm[-1]
        unseen = [link for link in self._idle if session not in link.sessions_seen]
        # Those that still belong to some other peer are taken when no more can be made.
        spare = [link for link in unseen if link.session is None or is_full]
        if spare:
            return spare[0]
        return self._idle[0] if is_full and self._idle else None
