"""python -m datastill."""

import sys

from datastill.cli import main

sys.exit(main())
