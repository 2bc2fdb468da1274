"""Walk through a generator's latents: python scripts/interpolate.py --help"""

import sys

from gan_lightning.commands.verbs import Verb

if __name__ == "__main__":
    sys.exit(Verb.interpolate.main())
