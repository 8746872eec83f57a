import sys

from hfx_sgl.sim.cli import main

sys.exit(main())
