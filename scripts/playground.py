"""Open a page to explore a generator: python scripts/playground.py --help"""

import sys

from gan_lightning.commands.verbs import Verb

if __name__ == "__main__":
    sys.exit(Verb.playground.main())
