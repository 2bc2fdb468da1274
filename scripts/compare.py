"""Train recipes under the same conditions and compare them: python scripts/compare.py --help"""

import sys

from gan_lightning.commands.verbs import Verb

if __name__ == "__main__":
    sys.exit(Verb.compare.main())
