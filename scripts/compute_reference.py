"""Compute the statistics of real images: python scripts/compute_reference.py --help"""

import sys

from gan_lightning.commands.compute_reference import main

if __name__ == "__main__":
    sys.exit(main())
