"""The cloud: trains, publishes and corrects."""

import os

# torch's OpenMP threads spin while they wait, which costs other processes on the same cores three
# times what it gains (docs/decisions.md). Read when torch is loaded, so set before anything is.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
