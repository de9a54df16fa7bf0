"""Compare test-time training settings on tasks kept for choosing: held-out families and held-out ARC training tasks.

Never run on a set that is reported on. One line of results per setting:

    python benchmarks/choose_settings.py --per-family 3 --arc ../shared/data/arc-agi-1/training.json \
        --setting steps=40,learning_rate=0.002,batch_size=8,rank=16,n_views=8
"""

import argparse
import random
import time
from pathlib import Path

from icl_engine.answering import answer_by_vote
from icl_engine.embedded.corpus import is_held_out_arc_task
from icl_engine.families import FAMILIES, HELD_OUT, sample_task
from icl_engine.language_model import load_model
from icl_engine.loaders import load_tasks
from icl_engine.probe import probe
from icl_engine.task import LabelledTask, Task
from ttt_engine.config import LoraSettings, TrainingSettings
from ttt_engine.engine import TttEngine
from ttt_engine.stores import MemoryAdapterStore

SETTING = {"steps": 40, "learning_rate": 2e-3, "batch_size": 8, "rank": 16, "alpha": 32.0, "n_views": 8}


def held_out_tasks(per_family: int, kinds: tuple[str, ...]) -> list[LabelledTask]:
    """Draw tasks of three demonstrations and a query from the families that are never trained on."""
    tasks = []
    for family in FAMILIES:
        if family.name not in HELD_OUT or family.kind not in kinds:
            continue
        rng = random.Random(f"choose/{family.name}")
        for i in range(per_family):
            *shown, (query, solution) = sample_task(rng, family, 4)
            task = Task.from_pairs(shown, query, id=f"{family.name}_{i}")
            tasks.append(LabelledTask.parse(task, [solution]))
    return tasks


def main() -> None:
    """Run every setting on every task and print what it solved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--per-family", type=int, default=3)
    parser.add_argument("--kinds", default="row,grid")
    parser.add_argument("--arc", type=Path, help="ARC training tasks, of which the held-out tenth is used")
    parser.add_argument("--max-tokens", type=int, default=600, help="of a whole task; longer ones are left out")
    parser.add_argument("--setting", action="append", default=[])
    given = parser.parse_args()

    model = load_model(given.model)
    tasks = held_out_tasks(given.per_family, tuple(given.kinds.split(",")))
    if given.arc:
        tasks += [each for each in load_tasks(given.arc) if is_held_out_arc_task(each.task.id)]
    tasks = [each for each in tasks if len(model.encoding.encode(each.task).ids) <= given.max_tokens]

    started = time.perf_counter()
    solved = sum(probe(model, each.task).answer.value == each.solutions[0] for each in tasks)
    seconds = (time.perf_counter() - started) / len(tasks)
    print(f"icl: {solved}/{len(tasks)} solved, {seconds:.2f} s a task", flush=True)
    for text in given.setting or [""]:
        parts = [part.split("=") for part in text.split(",") if part]
        setting = SETTING | {name: float(value) for name, value in parts}
        n_views = int(setting["n_views"])
        engine = TttEngine(model, MemoryAdapterStore(), LoraSettings(int(setting["rank"]), setting["alpha"]))
        training = TrainingSettings(int(setting["steps"]), int(setting["batch_size"]), setting["learning_rate"])
        n_right, n_first, train_s, answer_s = 0, 0, 0.0, 0.0
        for each in tasks:
            if training.steps:
                adapted = engine.adapt(each.task, training, seed=0)
                train_s += adapted.adapter.train_seconds
            began = time.perf_counter()
            if training.steps:
                answer = engine.answer(each.task, adapted.adapter, n_views=n_views)[0]
            else:
                answer = answer_by_vote(model, each.task, n_views=n_views)[0]
            answer_s += time.perf_counter() - began
            n_right += each.solutions[0] in answer.values
            n_first += each.solutions[0] == answer.value
        n = len(tasks)
        print(
            f"{text or 'default'}: {n_right}/{n} solved, {n_first} first, "
            f"{train_s / n:.2f} s training and {answer_s / n:.2f} s answering a task",
            flush=True,
        )


if __name__ == "__main__":
    main()
