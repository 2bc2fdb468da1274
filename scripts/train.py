"""Train a GAN: python scripts/train.py --help"""

import sys

from gan_lightning.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
