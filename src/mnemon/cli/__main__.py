"""``python -m mnemon.cli``, for ``torchrun --nproc_per_node 2 -m mnemon.cli -- train …``."""

import sys

from mnemon.cli import main

sys.exit(main())
