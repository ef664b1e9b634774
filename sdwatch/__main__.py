"""`python -m sdwatch`: the same as the command `sdwatch`."""

from __future__ import annotations

import sys

from sdwatch.cli import main

if __name__ == "__main__":
    sys.exit(main())
