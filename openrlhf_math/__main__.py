"""`python -m openrlhf_math` is the same as the console script `openrlhf-math`."""

import sys

from openrlhf_math.cli import main

if __name__ == "__main__":
    sys.exit(main())
