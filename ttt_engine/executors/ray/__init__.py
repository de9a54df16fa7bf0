"""The executor on a Ray cluster. Importing this loads Ray, and connects to nothing."""

from __future__ import annotations

import os

# else a call after the connection is gone makes one of its own, to whatever cluster was here last, and the process ends
# where that is not there any more; read as Ray is imported
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

from ttt_engine.executors.ray.executor import RayExecutor

__all__ = ["RayExecutor"]
