"""``python -m sluice.runtime.streaming``: the process that Lambda runs."""

import sys

from sluice.runtime.streaming.loop import main

if __name__ == "__main__":
    sys.exit(main())
