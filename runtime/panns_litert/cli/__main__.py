"""`python -m panns_litert.cli`."""

import sys

from panns_litert.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
