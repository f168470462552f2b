"""`python -m tuneyard.cli`: the command `tuneyard`, where it is not installed as a script."""

import sys

from tuneyard.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
