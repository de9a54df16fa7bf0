"""Compare test-time training settings on tasks kept for choosing: held-out families and held-out ARC training tasks.

Never run on a set that is reported on. One line of results per setting:

    python benchmarks/choose_settings.py --per-family 3 --arc ../shared/data/arc-agi-1/training.json \
        --setting steps=40,learning_rate=0.002 --setting method=full,learning_rate=0.0005

What a setting may name, with its default, is in SETTING: `targets` is all, attention or mlp; `method` is lora or full
(every weight is trained); `output_head`, `frozen_a` and `task_token` are yes or no.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from icl_engine.answering import answer_by_vote
from icl_engine.embedded.corpus import is_held_out_arc_task
from icl_engine.families import FAMILIES, HELD_OUT, sample_task
from icl_engine.language_model import load_model
from icl_engine.loaders import load_tasks
from icl_engine.probe import probe
from icl_engine.task import LabelledTask, Task
from icl_engine.transformers_model import TransformersModel
from ttt_engine.adaptation import adaptation_of
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.training import TrainingJob, train

DEFAULT = TrainingSettings()
SETTING = {
    "method": "lora",
    "steps": str(DEFAULT.steps),
    "learning_rate": str(DEFAULT.learning_rate),
    "batch_size": str(DEFAULT.batch_size),
    "token_budget": str(DEFAULT.token_budget),
    "rank": "16",
    "alpha": "32",
    "targets": "all",
    "output_head": "no",
    "frozen_a": "no",
    "task_token": "no",
    "n_views": "8",
}
YES = {"yes": True, "no": False}
TARGETS: dict[str, str | tuple[str, ...]] = {
    "all": "all-linear",
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}


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
    if arc:
        tasks += [("arc", each) for each in load_tasks(arc) if is_held_out_arc_task(each.task.id)]
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


def run(setting: dict[str, str], kind: str, each: LabelledTask) -> Outcome:
    """Train on one task under a setting, and answer it."""
    training = TrainingSettings(
        steps=int(setting["steps"]),
        batch_size=int(setting["batch_size"]),
        learning_rate=float(setting["learning_rate"]),
        token_budget=int(setting["token_budget"]),
    )
    lora = LoraSettings(
        int(setting["rank"]),
        float(setting["alpha"]),
        TARGETS[setting["targets"]],
        output_head=YES[setting["output_head"]],
        frozen_a=YES[setting["frozen_a"]],
        task_token=YES[setting["task_token"]],
        method=setting["method"],  # type: ignore[arg-type]  # what is no method is refused
    )
    began = time.perf_counter()
    trained = train(_model, lora, TrainingJob(each.task, training, seed=0))
    adaptation = adaptation_of(_model, lora)
    adaptation.fill(trained.tensors)
    with adaptation.merged():
        answers = answer_by_vote(_model, each.task, n_views=int(setting["n_views"]))
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
    with ProcessPoolExecutor(
        given.processes, mp_context=get_context("spawn"), initializer=start, initargs=(given.model, threads)
    ) as pool:
        jobs = [pool.submit(in_context, kind, each) for kind, each in tasks]
        print(line("icl", [job.result() for job in jobs]), flush=True)
        for text in given.setting or [""]:
            named = dict(part.split("=") for part in text.split(",") if part)
            if named.keys() - SETTING.keys():
                parser.error(f"no setting {min(named.keys() - SETTING.keys())!r}; known are {', '.join(SETTING)}")
            setting = SETTING | named
            jobs = [pool.submit(run, setting, kind, each) for kind, each in tasks]
            print(line(text or "default", [job.result() for job in jobs]), flush=True)


if __name__ == "__main__":
    main()
