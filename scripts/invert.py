"""Find the latent of an image: python scripts/invert.py --help"""

import sys

from gan_lightning.commands.invert import main

if __name__ == "__main__":
    sys.exit(main())
