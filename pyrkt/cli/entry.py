"""What the launcher executes as ``python -I -S``: no site processing, so it finds its own package.

A script is compiled anew at each start; that is why it is this short.
"""

import sys

sys.path.insert(0, __file__.rsplit("/", 3)[0])

from pyrkt.cli.main import main

sys.exit(main(sys.argv[1:]))
