"""`python -m locedit`: one prompt traced or edited, and what a table's file says of itself."""

import sys

from locedit.cli.main import main

sys.exit(main())
