"""Measure this project beside what else there is: python scripts/benchmark.py --help"""

import sys

from gan_lightning.commands.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
