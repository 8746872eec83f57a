import sys

from hfx_sgl.report.cli import main

sys.exit(main())
