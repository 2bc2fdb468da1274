"""Walk through a generator's latents: python scripts/interpolate.py --help"""

import sys

from gan_lightning.commands.interpolate import main

if __name__ == "__main__":
    sys.exit(main())
