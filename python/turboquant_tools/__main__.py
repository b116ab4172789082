import sys

from turboquant_tools.cli import main

sys.exit(main())
