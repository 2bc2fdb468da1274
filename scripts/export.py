"""Export the generator of a checkpoint: python scripts/export.py --help"""

import sys

from gan_lightning.commands.verbs import Verb

if __name__ == "__main__":
    sys.exit(Verb.export.main())
