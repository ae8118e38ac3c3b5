"""Entry point of python -m issref.sweep, described in the package."""

import sys

from issref.sweep.command import main

if __name__ == "__main__":
    sys.exit(main())
