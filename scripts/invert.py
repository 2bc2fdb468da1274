"""Find the latent of an image: python scripts/invert.py --help"""

import sys

from gan_lightning.commands.verbs import Verb

if __name__ == "__main__":
    sys.exit(Verb.invert.main())
