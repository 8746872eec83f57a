#!/usr/bin/env python3
"""Tests an OpenAI-compatible or SGLang endpoint under load; see --help."""

import sys
from pathlib import Path

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit("load_test needs Python 3.11 to 3.13, this is " + sys.version.split()[0])

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    from hfx_sgl.loadtest.cli import main
except ModuleNotFoundError as exc:
    print(f"load_test: {exc}; run it with the python of the project's venv", file=sys.stderr)
    sys.exit(2)

sys.exit(main())
