"""``python -m mnemon.cli``, which is what torchrun starts."""

import sys

from mnemon.cli import main

sys.exit(main())
