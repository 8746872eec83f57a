"""Hand-off of paged KV between two engines: the sender writes into pages of the receiver.

When pages of a hand-off may be used again
------------------------------------------

A transfer that began cannot be taken back: neither side has a call that does it, and a sender that
was stopped goes on where it was when it is continued, minutes later. So the receiver gives pages
back for use only when nobody can write to them any more, and keeps them in quarantine until then.

- Nobody can before a sender has taken up the hand-off: the addresses go out in the answer to that.
- The sender settles: it tells that every transfer it began has ended. If all of them succeeded,
  the bytes are in place and nothing is under way: all backends report success only when the other
  side has applied the bytes. If one failed, the rest of it may lie in socket buffers, so the pages
  are held a while longer (`late_write_hold_s`). The hold counts time in which this process ran:
  bytes in a buffer are read by the process itself, and if it was stopped they are still there.
- The sender's control connection breaks without that. Its process may have died, may be stopped,
  or the network may have failed; its transfers go another way and prove nothing. Each sender holds
  a port open for as long as its process lives, stopped or not (`life`). When a connection to it
  is *refused*, the process is gone, the kernel has closed its sockets, and only what is in buffers
  can arrive: the hold, then free. Silence proves nothing; the pages stay in quarantine. A side
  process that writes in the name of a sender is killed by the kernel when that ends.
- A sender whose connection broke begins nothing more, waits for the end of what it began, connects
  again and settles. That empties the quarantine after a failure of the network.
- A machine that lost its power never refuses. Somebody who knows says so (`declare_dead`).

Shared memory needs no hold: stores of a process end with it. The regions stay registered
throughout: taking one back does not stop a transfer under way, and would stop all others.
"""
