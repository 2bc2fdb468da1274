"""Translate images by a checkpoint: python scripts/translate.py --help"""

import sys

from gan_lightning.commands.verbs import Verb

if __name__ == "__main__":
    sys.exit(Verb.translate.main())
