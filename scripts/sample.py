"""Draw images from a checkpoint: python scripts/sample.py --help"""

import sys

from gan_lightning.commands.verbs import Verb

if __name__ == "__main__":
    sys.exit(Verb.sample.main())
