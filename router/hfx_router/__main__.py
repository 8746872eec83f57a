import sys

from hfx_router.launch_router import main

sys.exit(main())
