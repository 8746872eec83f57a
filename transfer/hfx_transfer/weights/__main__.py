import sys

from hfx_transfer.weights.cli.main import main

sys.exit(main())
