"""Workers on a Ray cluster, whose machines need not share any files.

Imports no torch.
"""

import os

# Ray reads these when it is imported, the last one when it starts a cluster.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # never has Ray build environments
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray's 15 is for machines that people work on: an engine would starve beside its learner.
os.environ.setdefault("RAY_worker_niceness", "0")
