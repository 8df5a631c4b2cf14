"""`python -m proofs.mock_exchange`"""

import sys

from .cli import main

sys.exit(main())
