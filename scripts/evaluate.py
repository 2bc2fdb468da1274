"""Measure a trained generator: python scripts/evaluate.py --help"""

import sys

from gan_lightning.commands.verbs import Verb

if __name__ == "__main__":
    sys.exit(Verb.evaluate.main())
