"""The cloud: trains and publishes models, and serves corrections."""

import os

# Waiting OpenMP threads of torch would spin, which costs other processes on the same cores three
# times what it gains (docs/decisions.md). torch reads this variable when it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
