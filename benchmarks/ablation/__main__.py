"""Answer tasks under every variant and bring the tables of a document up to date.

    python -m benchmarks.ablation --data DATA --processes 2 --stop-after 7200 --group paper --group inference
    python -m benchmarks.ablation --data DATA --processes 2 --stop-after 7200    # what is there is not done again
    python -m benchmarks.ablation --data DATA --tables                           # measure nothing

All variants are gone through on one task after the other, in one shuffled order, and each row is on disk as soon as it
is there: a run may be broken off anywhere. Give the same tasks each time (`--set`, `--limit`, `--max-tokens`), since
they also say which tasks share an adapter. Seconds are those of one process on its share of the cores, and mean
something while nothing else runs. Rows of a machine whose products in training are in another precision count, too,
where they are of whole blocks of tasks. Nothing is chosen by this table: the defaults come from tasks kept for choosing
(benchmarks/choose_settings.py).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

from rich.console import Console

from benchmarks.ablation import jobs
from benchmarks.ablation.precisions import Rows
from benchmarks.ablation.report import report
from benchmarks.ablation.solving import Row, solve
from benchmarks.ablation.variants import DEFAULT, GROUPS, VARIANTS, Kind, Variant
from benchmarks.throughput.records import processor_here
from icl_engine.language_model import load_model
from router.checkout import commit_here
from router.evaluation_workers import Workers, append_lines, read_lines
from router.model_eval import SETS, load_set, within
from router.model_report import write_between_marks
from router.progress import EvaluationProgress
from router.settings import Settings

RESULTS, DOCUMENT = Path("docs/data/ttt_ablation.jsonl"), Path("docs/ttt.md")


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what is asked for and print the tables."""
    parser = _parser()
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), **({} if given.model is None else {"model": given.model}))
        model = load_model(settings.model, device="cpu")
        tasks = _tasks(given, within(model.encoding, given.max_tokens))
        rows = [Row.read(entry) for entry in read_lines(given.results)]
        there = Rows(rows, tasks, model)
        n_others = len(rows) - len(there.known)
        if n_others:
            print(f"{n_others} of {len(rows)} rows of {given.results} are not of this plan.", file=sys.stderr)
        if n_uncounted := len(there.known) - len(there.counted):
            print(f"{n_uncounted} rows do not count: their block is answered in another precision.", file=sys.stderr)
        if n_others and given.out and not given.anew:
            parser.error(
                f"{given.out} would lose these {n_others} rows: they are of other tasks, settings or weights. Leave "
                "them out with --anew."
            )
        if not given.tables:
            left = [job for job in there.left(_variants(given)) if given.kind in (None, job.tasks[0].kind)]
            commit, processor = commit_here(), processor_here()
            with Workers(settings, given.processes) as workers, EvaluationProgress(Console(stderr=True)) as progress:
                for n_done, found in enumerate(workers.each(solve, left, stop_after_s=given.stop_after), 1):
                    new = [replace(row, commit=commit, processes=given.processes, processor=processor) for row in found]
                    append_lines(given.results, map(asdict, new))
                    rows += new
                    progress("trainings", n_done, len(left))
        there = Rows(rows, tasks, model)
        text = report(there.counted, _head(there, tasks, given))
    print(text)
    if given.out:
        write_between_marks(given.out, text)
        print(f"Written into {given.out}.", file=sys.stderr)


def _tasks(given: argparse.Namespace, fits: jobs.Fits) -> list[jobs.Item]:
    sets = [
        load_set(name, given.data, fits=fits, limit=given.limit, n_queries=given.queries) for name in given.set or SETS
    ]
    return jobs.shuffled([jobs.Item(each.name, labelled) for each in sets for labelled in each.tasks])


def _variants(given: argparse.Namespace) -> list[Variant]:
    """Return the variants that are asked for, and the default, which all are held against."""
    asked = set(given.variant or ()) | {each.name for each in VARIANTS.values() if each.group in (given.group or ())}
    everything = not given.variant and not given.group
    return [each for each in VARIANTS.values() if everything or each.name in asked or each.name == DEFAULT]


def _head(there: Rows, tasks: Sequence[jobs.Item], given: argparse.Namespace) -> str:
    rows = there.counted
    sizes = ", ".join(f"{name} {n}" for name, n in sorted(Counter(item.set for item in tasks).items()))
    processes, commits = (
        ", ".join(sorted({str(getattr(row, name)) for row in rows})) for name in ("processes", "commit")
    )
    named = {"bf16": "bfloat16", "full": "full precision"}
    precision = " and ".join(f"in {named[each]} for {n} tasks" for each, n in sorted(there.n_tasks.items()))
    processors = sorted({row.processor for row in rows} - {""}) or [processor_here()]
    n_failed = sum(bool(row.failed) for row in rows)
    return (
        f"{'; '.join(processors)}, {os.cpu_count()} cores, {processes} process(es) beside each other, each on its "
        f"share; commit {commits}; seed {jobs.SEED}; products of training {precision}, the same for all variants of a "
        f"task. Tasks of at most {given.max_tokens:,} tokens ({sizes}); a row counts those that it rests on; "
        f"{n_failed} rows say why training or answering failed. Points against the default are of the tasks that both "
        "have answered, its seconds are those of all tasks that one commit has answered by both, in sum; intervals are "
        "95 %, of tasks drawn anew, or of blocks where these share an adapter."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", action="append", choices=SETS, help="default: all")
    parser.add_argument("--limit", type=int, default=120, help="tasks of each set, spread over its kinds")
    parser.add_argument("--queries", type=int, default=12, help="of each text file")
    parser.add_argument("--max-tokens", type=int, default=1024, help="of a whole task; longer ones are left out")
    parser.add_argument("--group", action="append", choices=GROUPS, help="of variants; default: all")
    parser.add_argument("--variant", action="append", choices=VARIANTS)
    parser.add_argument("--kind", choices=get_args(Kind), help="of the tasks to answer now; default: both")
    parser.add_argument("--model", help="default: the embedded one")
    parser.add_argument("--processes", type=int, default=1, help="beside each other, each on its share of the cores")
    parser.add_argument("--stop-after", type=float, metavar="S", help="begin nothing after so many seconds")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--anew", action="store_true", help="make tables without the kept rows of other plans")
    parser.add_argument("--out", type=Path, help=f"a document whose tables are brought up to date, such as {DOCUMENT}")
    return parser


if __name__ == "__main__":
    main()
