"""Where batches of tasks are solved: in this process, in others beside it, or by workers on a Ray cluster. Importing
this loads no Ray.
"""

from ttt_engine.executors.batching import batches_of
from ttt_engine.executors.executor import Batch, Executor, MakeWorker, Reach, Worker
from ttt_engine.executors.in_process import InProcessExecutor, seconds_left
from ttt_engine.executors.opening import IN_PROCESS, open_executor

__all__ = [
    "IN_PROCESS",
    "Batch",
    "Executor",
    "InProcessExecutor",
    "MakeWorker",
    "Reach",
    "Worker",
    "batches_of",
    "open_executor",
    "seconds_left",
]
