"""`python -m proofs.mock_exchange`"""

import sys

from proofs.mock_exchange.cli import main

sys.exit(main())
