"""What each choice of training at test time and of inference is worth: the default with one choice made otherwise.

    python benchmarks/ablate_ttt.py --data DATA --limit 72 --processes 2 --results docs/data/ttt_ablation.jsonl \
        --out docs/ttt.md

Answers the same tasks under every variant, each once; a run that was broken off goes on where it stopped. Seconds count
only with one process and nothing beside it. Nothing is chosen by this table: the defaults come from tasks kept for
choosing (choose_settings.py).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from icl_engine.language_model import load_model
from router.model_eval import SETS, TEXT_SET, Result, describe, evaluate, load_set, within
from router.model_report import wilson, write_between_marks
from router.progress import EvaluationProgress
from router.settings import Settings

DEFAULT = "the default"
IN_CONTEXT = "in context, no training"
# name: what is set otherwise; the rows of the paper's ablation first
VARIANTS: dict[str, dict[str, object]] = {
    DEFAULT: {},
    "no transformations (order alone)": {"ttt_augmentation": "order"},
    "direct input-output pairs": {"ttt_data": "direct"},
    "loss on the last output alone": {"ttt_loss_on": "last"},
    "loss on every output": {"ttt_loss_on": "outputs"},
    "loss on inputs too": {"ttt_loss_on": "all"},
    "leave-two-out as well": {"ttt_data": "leave_two_out"},
    "shuffles of all demonstrations": {"ttt_data": "shuffles"},
    "no augmentation at all": {"ttt_augmentation": "none"},
    "the paper's 23 augmentations": {"ttt_augmentation": "paper"},
    "translation and scaling too": {"ttt_augmentation": "visual"},
    "products in bfloat16": {"ttt_precision": "bf16"},
    "rank 4": {"ttt_rank": 4, "ttt_alpha": 8.0},
    "B matrices alone (frozen A)": {"ttt_frozen_a": True},
    "the output head too": {"ttt_output_head": True},
    "a task token too": {"ttt_task_token": True},
    "a task token alone": {"ttt_rank": 0, "ttt_task_token": True, "ttt_learning_rate": 2e-2},
    "all weights": {"ttt_method": "full", "ttt_learning_rate": 7e-4},
    "attention matrices alone": {"ttt_targets": ("q_proj", "k_proj", "v_proj", "o_proj")},
    "twice the steps": {"ttt_steps": 80, "ttt_token_budget": 320_000},
    "early stop and giving up": {"ttt_check_every": 4},
    "rate, rank and steps by the task": {"ttt_auto": True},
    "one view": {"n_views": 1},
    "32 views": {"n_views": 32},
    "the paper's views": {"views": "paper", "n_views": 64},
    "flat vote": {"vote": "flat"},
    "candidates scored under all views": {"vote": "scored"},
    "search over the output tree": {"decode": "search"},
}


def rows_of(results: Sequence[Result], sets: Sequence[str]) -> dict[str, str]:
    """Return, by column, what one variant came to."""
    columns: dict[str, str] = {}
    for name in sets:
        of_set = [result for result in results if result.set == name]
        right = sum(result.right_first if name == TEXT_SET else result.right for result in of_set)
        low, high = wilson(right, len(of_set))
        columns[name] = f"{right} of {len(of_set)} ({100 * low:.0f}-{100 * high:.0f} %)" if of_set else ""
    whole: dict[tuple[str, str], bool] = {}
    for result in results:
        place = result.set, result.task_id
        whole[place] = whole.get(place, True) and result.right
    columns["whole tasks"] = f"{sum(whole.values())} of {len(whole)}"
    alone = {(result.set, result.task_id): result.seconds for result in results if result.processes == 1}
    columns["seconds a task, median"] = f"{statistics.median(alone.values()):.2f}" if alone else ""
    return columns


def table(rows: dict[str, dict[str, str]]) -> str:
    """Return the table as Markdown."""
    names = list(next(iter(rows.values())))
    lines = [f"| variant | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(row.values())} |" for name, row in rows.items())])


def main() -> None:
    """Answer the tasks under every variant and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", action="append", choices=SETS, help="default: 1d-arc")
    parser.add_argument("--limit", type=int, help="tasks of each set, spread over its kinds")
    parser.add_argument("--queries", type=int, help="of each text file")
    parser.add_argument("--max-tokens", type=int, default=2048)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", action="append", choices=VARIANTS, help="default: every variant")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="a document whose table is brought up to date")
    given = parser.parse_args()
    encoding = load_model().encoding

    names = given.set or ["1d-arc"]
    fits = within(encoding, given.max_tokens)
    sets = [load_set(name, given.data, fits=fits, limit=given.limit, n_queries=given.queries) for name in names]
    rows: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as home:
        for name, chosen in VARIANTS.items():
            if given.only and name not in given.only:
                continue
            settings = Settings(home=Path(home), **chosen)  # type: ignore[arg-type]  # pydantic checks them
            about, arms = describe(settings), ("icl", "ttt") if name == DEFAULT else ("ttt",)
            print(name, file=sys.stderr)
            with EvaluationProgress(Console(stderr=True)) as progress:
                found = evaluate(sets, settings, given.results, arms=arms, processes=given.processes, progress=progress)
            ours = [result for result in found if (result.model, result.settings) == about]
            asked = {(each.name, labelled.task.id) for each in sets for labelled in each.tasks}
            ours = [result for result in ours if (result.set, result.task_id) in asked]
            if name == DEFAULT:
                rows[IN_CONTEXT] = rows_of([result for result in ours if result.arm == "icl"], names)
            rows[name] = rows_of([result for result in ours if result.arm == "ttt"], names)
            text = table(rows)
            if given.out:
                write_between_marks(given.out, text)
    print(text)


if __name__ == "__main__":
    main()
