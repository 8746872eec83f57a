import sys

from hfx_sgl.loadtest.cli import main

sys.exit(main())
