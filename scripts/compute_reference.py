"""Compute the statistics of real images: python scripts/compute_reference.py --help"""

import sys

from gan_lightning.commands.verbs import Verb

if __name__ == "__main__":
    sys.exit(Verb.compute_reference.main())
