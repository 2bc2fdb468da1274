"""Draw images from a checkpoint: python scripts/sample.py --help"""

import sys

from gan_lightning.commands.sample import main

if __name__ == "__main__":
    sys.exit(main())
