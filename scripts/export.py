"""Export the generator of a checkpoint: python scripts/export.py --help"""

import sys

from gan_lightning.commands.export import main

if __name__ == "__main__":
    sys.exit(main())
