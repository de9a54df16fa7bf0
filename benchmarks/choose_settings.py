"""Compare test-time training settings on tasks kept for choosing: held-out families and held-out ARC training tasks.

Never run on a set that is reported on. One line of results per setting:

    python benchmarks/choose_settings.py --per-family 3 --arc ../shared/data/arc-agi-1/training.json \
        --setting "" --setting ttt_steps=80,ttt_check_every=4 --setting ttt_method=full,ttt_learning_rate=0.0007

A setting names the router's settings (`router/settings.py`), separated by commas; "" is the default. A value may have
commas, too: `--setting ttt_targets=q_proj,v_proj,ttt_rank=32`.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from icl_engine.embedded.corpus import Corpus, is_held_out_arc_task
from icl_engine.embedded.vocabulary import is_in_sentences
from icl_engine.families import FAMILIES, HELD_OUT, Rejected, sample_task
from icl_engine.families.wordings import small_talk
from icl_engine.families.words import NOUNS
from icl_engine.language_model import load_model
from icl_engine.loaders import load_tasks
from icl_engine.probe import probe
from icl_engine.task import LabelledTask, Task
from icl_engine.transformers_model import TransformersModel
from icl_engine.worker_processes import worker_pool
from router.settings import Settings
from ttt_engine.engine import TttEngine
from ttt_engine.stores import MemoryAdapterStore


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one setting made of one task."""

    kind: str
    right: bool
    first: bool
    seconds: float


def tasks_for_choosing(per_family: int, kinds: tuple[str, ...], arc: Path | None) -> list[tuple[str, LabelledTask]]:
    """Draw tasks of three demonstrations and a query from the families that are never trained on; add ARC's."""
    tasks = []
    for family in FAMILIES:
        if family.name not in HELD_OUT or family.kind not in kinds:
            continue
        rng = random.Random(f"choose/{family.name}")
        for i in range(per_family):
            *shown, (query, solution) = sample_task(rng, family, 6 if family.kind == "text" else 4)
            task = Task.from_pairs(shown, query, id=f"{family.name}_{i}")
            tasks.append((family.kind, LabelledTask.parse(task, [solution])))
    if "sentences" in kinds:
        tasks += tasks_in_sentences(10 * per_family)
    if arc:
        tasks += [("arc", each) for each in load_tasks(arc) if is_held_out_arc_task(each.task.id)]
    return tasks


def tasks_in_sentences(n: int) -> list[tuple[str, LabelledTask]]:
    """Draw tasks of ten demonstrations in sentences, of families that are trained on, but told and answered otherwise:
    words beside the point around every input, and for each answer that recurs a word that has nothing to do with it.
    """
    corpus, tasks = Corpus.of(), []
    for i in range(n):
        rng = random.Random(f"choose/sentences/{i}")
        pairs: list[tuple[str, str]] = []
        while len(pairs) < 11 or not is_in_sentences([given for given, _ in pairs]):
            family = rng.choice(corpus.families["text"])
            pairs = []
            with suppress(Rejected):  # no usable draw of this family: another one is tried
                pairs = [(str(given), str(answer)) for given, answer in sample_task(rng, family, 11)]
        told = small_talk(rng)
        answers = [answer for _, answer in pairs]
        recurring = [answer for answer in dict.fromkeys(answers) if answers.count(answer) > 1]
        renamed = dict(zip(recurring, rng.sample(NOUNS, len(recurring)), strict=True))
        *shown, (query, solution) = [(told(given), renamed.get(answer, answer)) for given, answer in pairs]
        tasks.append(
            ("sentences", LabelledTask.parse(Task.from_pairs(shown, query, id=f"{family.name}_{i}"), [solution]))
        )
    return tasks


_model: TransformersModel


def start(path: str | None, threads: int) -> None:
    """Load the model of a worker process."""
    global _model
    torch.set_num_threads(threads)
    _model = load_model(path)


def in_context(kind: str, each: LabelledTask) -> Outcome:
    """Answer without training."""
    began = time.perf_counter()
    answers = probe(_model, each.task).answers
    right = all(answer.value == known for answer, known in zip(answers, each.solutions, strict=True))
    return Outcome(kind, right, right, time.perf_counter() - began)


def run(chosen: dict[str, str], kind: str, each: LabelledTask) -> Outcome:
    """Train on one task under a setting, and answer it; in context where training finds that it does not help."""
    settings = Settings(**chosen)  # type: ignore[arg-type]  # pydantic reads numbers from text
    preset = settings.ttt(_model.n_parameters, bfloat16=_model.prefers_bfloat16)
    engine = TttEngine(_model, MemoryAdapterStore(), preset.lora)
    began = time.perf_counter()
    adapter = engine.adapt(each.task, preset.training_for(each.task.kind), seed=0).adapter
    answers = engine.answer(each.task, adapter, settings=settings.inference)
    if not adapter.helps:
        answers = probe(_model, each.task).answers
    seconds = time.perf_counter() - began
    both = list(zip(answers, each.solutions, strict=True))
    return Outcome(
        kind, all(known in a.values for a, known in both), all(known == a.value for a, known in both), seconds
    )


def line(name: str, outcomes: list[Outcome]) -> str:
    """Say what a setting came to, in all and by kind."""
    kinds = {kind: [each for each in outcomes if each.kind == kind] for kind in dict.fromkeys(o.kind for o in outcomes)}
    parts = [f"{kind} {sum(o.right for o in of)}/{len(of)}" for kind, of in kinds.items()]
    n = len(outcomes)
    seconds = sorted(o.seconds for o in outcomes)
    return (
        f"{name}: {sum(o.right for o in outcomes)}/{n} solved ({', '.join(parts)}), {sum(o.first for o in outcomes)} "
        f"first, {sum(seconds) / n:.2f} s a task (median {seconds[n // 2]:.2f})"
    )


def main() -> None:
    """Run every setting on every task and print what it solved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--per-family", type=int, default=3)
    parser.add_argument("--kinds", default="row,grid")
    parser.add_argument("--arc", type=Path, help="ARC training tasks, of which the held-out tenth is used")
    parser.add_argument("--max-tokens", type=int, default=600, help="of a whole task; longer ones are left out")
    parser.add_argument("--processes", type=int, default=1, help="beside each other; seconds count with 1")
    parser.add_argument("--setting", action="append", default=[])
    given = parser.parse_args()

    encoding = load_model(given.model).encoding
    tasks = [
        (kind, each)
        for kind, each in tasks_for_choosing(given.per_family, tuple(given.kinds.split(",")), given.arc)
        if len(encoding.encode(each.task).ids) <= given.max_tokens
    ]
    threads = max(1, (os.cpu_count() or 1) // given.processes)
    with worker_pool(given.processes, start, (given.model, threads)) as pool:
        jobs = [pool.submit(in_context, kind, each) for kind, each in tasks]
        print(line("icl", [job.result() for job in jobs]), flush=True)
        for text in given.setting or [""]:
            chosen = dict(part.split("=") for part in re.split(r",(?=\w+=)", text) if part)
            Settings(**chosen)  # type: ignore[arg-type]  # a slip of the pen is told of at once
            jobs = [pool.submit(run, chosen, kind, each) for kind, each in tasks]
            print(line(text or "default", [job.result() for job in jobs]), flush=True)


if __name__ == "__main__":
    main()
