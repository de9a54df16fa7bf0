"""Memory over many tasks: what is taken up after each, which must not grow."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.throughput.records import Record
from benchmarks.throughput.rounds import Schedule
from benchmarks.throughput.subject import Subject, task_of_tokens
from benchmarks.throughput.variants import Setting
from icl_engine.inference_settings import InferenceSettings, Precision
from ttt_engine.engine import TttEngine
from ttt_engine.stores import MemoryAdapterStore

_STORE_BYTES = 2**24  # full after a few tasks
_STEPS, _TOKENS, _VIEWS = 2, 64, 2


def remember(subject: Subject, setting: Setting, schedule: Schedule, *, tasks: int) -> Iterator[Record]:
    """Adapt and answer one small task after the other with the engine, its store soon full; a record a task. Products
    are in the precision that the router takes on the subject's processor, and candidates are scored.

    What a run that was broken off has measured says nothing of another process: it begins anew.
    """
    place = "memory", subject.name, ""
    if len(schedule.done.get(place, {})) >= tasks:
        return
    engine = TttEngine(subject.model, MemoryAdapterStore(max_bytes=_STORE_BYTES), setting.lora)
    precision: Precision = "bf16" if subject.model.prefers_bfloat16 else "full"
    training = replace(setting.training, steps=_STEPS, precision=precision)
    inference = InferenceSettings(n_views=_VIEWS, vote="scored", views_precision=precision)
    for i in range(tasks):
        if time.monotonic() >= schedule.until:
            return
        began = time.perf_counter()
        task = task_of_tokens(_TOKENS, seed=i)
        adapted = engine.adapt(task, training, seed=setting.seed)
        engine.answer(task, adapted.adapter, settings=inference)
        figures = {"resident_bytes": float(resident_bytes())}
        if subject.device.type == "cuda":
            figures["device_bytes"] = float(torch.cuda.memory_allocated(subject.device))
        yield Record(*place, "TttEngine", i, time.perf_counter() - began, None, figures)


def resident_bytes() -> int:
    """Return the memory this process takes up."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
