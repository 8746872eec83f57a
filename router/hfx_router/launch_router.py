"""The command: reads the configuration, starts the router, returns the exit status."""

import os
import sys
from collections.abc import Sequence

from hfx_router.settings import load_settings
from hfx_sgl.errors import ConfigError

EXIT_BAD_CONFIGURATION = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the router with these arguments, by default those of the process.

    Returns 0 after a clean stop, 1 when the router failed, 2 for a bad configuration.
    """
    try:
        settings = load_settings(sys.argv[1:] if argv is None else argv, os.environ)
        # Imported late: --help and a bad configuration need none of the router.
        from hfx_router.app import run

        return run(settings)
    except ConfigError as exc:
        for problem in exc.problems:
            print(problem, file=sys.stderr)
        return EXIT_BAD_CONFIGURATION


if __name__ == "__main__":
    sys.exit(main())
