"""Measure a trained generator: python scripts/evaluate.py --help"""

import sys

from gan_lightning.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
