"""A process that begins to load weights, says so after its fifth chunk, and gets no further.

With a port it serves meanwhile what it has.
"""

import sys
import threading

from hfx_transfer.engine.protocol import Backend
from hfx_transfer.weights import LoadSettings, SeedSettings, load_weights
from support.weights import Watch


def _announce_and_hang() -> None:
    print("pulling", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    load_weights(
        from_=sys.argv[1],
        settings=LoadSettings(backends=(Backend(sys.argv[2]),)),
        reseed=SeedSettings(port=int(sys.argv[3])) if sys.argv[3:] else None,
        observer=Watch(5, _announce_and_hang),
    )
