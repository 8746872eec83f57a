import sys

from hfx_sgl.emulator.cli import main

sys.exit(main())
