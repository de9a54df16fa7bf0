"""The probe: one in-context pass over a task that gives its answer and every sign of how well the model has understood
it.

The answer is the `icl` arm's answer, so probing before deciding costs nothing where the decision is `icl`. Each
demonstration is held out in turn as well, unless that is to wait; on request a few augmentations of the task are asked,
to see whether they agree, and a vote goes on from what they said.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean
from typing import TypeVar

from icl_engine.answer import Answer
from icl_engine.answering import Asked, answer_of, as_search
from icl_engine.augmentations import Augmentation, views
from icl_engine.errors import ContextOverflow, OutOfMemory
from icl_engine.language_model import Generation, LanguageModel, OutputScore
from icl_engine.leave_one_out import leave_one_out
from icl_engine.signals import agreement, projected, sureness_of
from icl_engine.task import Task

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one probe found. Scores are of the task's own demonstrations; a solution is never involved."""

    answers: tuple[Answer, ...]  # one per query, in context
    asked: tuple[Asked, ...]  # each query as it is and under each view asked, the query as it is first
    answer_log_probability: float  # nats, of all answers together
    answer_tokens: int  # written, in all answers together
    answer_entropy: float | None  # nats per token written; None where the model does not tell
    answer_margin: float | None  # nats from a token to its runner-up, the mean
    answer_least_margin: float | None
    demonstration_nll: tuple[float, ...]  # nats per token of each output given the demonstrations before it
    demonstration_exact: tuple[bool, ...]
    loo_nll: tuple[float, ...]  # nats per token of each output given all others; () where none was held out
    loo_exact: tuple[bool, ...]
    hidden: tuple[float, ...]  # of text: the model's state at the first prompt's end, projected; () where not told
    prompt_tokens: int  # of the first query's prompt
    n_prompts: int  # read in this probe: those asked and, where not remembered, one per demonstration held out
    prompt_s: float  # seconds of one prompt that was asked, its answer included
    seconds: float  # of everything

    @property
    def answer(self) -> Answer:
        """The answer to the first query."""
        return self.answers[0]

    @property
    def vote_agreement(self) -> float | None:
        """The share of views that say what the answers say, the queries as they are left out; None: none was asked."""
        shares = [agreement(values[0], values[1:]) for values in (asked.greedy_values for asked in self.asked)]
        known = [share for share in shares if share is not None]
        return fmean(known) if known else None

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        said = [search.tokens for asked in self.asked for search in asked.said]
        return sum(said) + (self.n_prompts - len(said)) * self.prompt_tokens


@dataclass(frozen=True, slots=True)
class ViewsRequest:
    """A probed task of which views are to be asked, to see whether they agree."""

    task: Task
    found: ProbeResult
    n_views: int
    seed: int = 0  # that of `answer_by_vote`, which then need not ask these views again


def probe(model: LanguageModel, task: Task) -> ProbeResult:
    """Answer the task in context and score its demonstrations, in order and held out.

    Raises:
        ContextOverflow: the task does not fit the model.
    """
    return Prober(model).probe(task)


class Prober:
    """Probes tasks on one model, and remembers the leave-one-out scores of the demonstrations it met last.

    Tasks often share their demonstrations (a file of queries under one set of shots); these scores do not hang on the
    query. Safe between threads: at worst two of them score the same demonstrations.

    Args:
        n_remembered: sets of demonstrations.
        n_views: views of every query that are asked in the same pass, to see whether they agree; also an attribute.
    """

    def __init__(self, model: LanguageModel, n_remembered: int = 256, *, n_views: int = 0) -> None:
        self._model = model
        self._n_remembered = n_remembered
        self.n_views = n_views
        self._held_out: OrderedDict[str, tuple[OutputScore, ...]] = OrderedDict()  # what was used last is last
        self._lock = threading.Lock()  # of what is remembered; not held while the model scores

    def probe(self, task: Task, *, seed: int = 0, held_out: bool = True) -> ProbeResult:
        """See `probe`.

        Args:
            seed: of the views.
            held_out: score the demonstrations held out, too; else they wait for `hold_out`.
        """
        return self._probe([task], seed, held_out)[0]

    def probe_together(
        self, tasks: Sequence[Task], *, seed: int = 0, held_out: bool = True
    ) -> list[ProbeResult | None]:
        """Probe several tasks at once, which takes less; they share the time evenly.

        What does not fit the model is left out (None), and everything where memory does not hold them together.
        """
        fits = [all(map(self._model.fits, _questions(task))) for task in tasks]
        try:
            fitting = [task for task, fits_it in zip(tasks, fits, strict=True) if fits_it]
            found = iter(self._probe(fitting, seed, held_out))
        except (ContextOverflow, OutOfMemory):
            return [None] * len(tasks)
        return [next(found) if fits_it else None for fits_it in fits]

    def hold_out(self, probed: Sequence[tuple[Task, ProbeResult]]) -> list[ProbeResult]:
        """Score the demonstrations of tasks that are probed, each held out in turn; return what was found before with
        these scores.
        """
        started = time.perf_counter()
        scores, new = self._held_out_scores([task for task, _ in probed])
        seconds = (time.perf_counter() - started) / max(len(probed), 1)
        return [
            _with_held_out(found, each, is_new, seconds)
            for (_, found), each, is_new in zip(probed, scores, new, strict=True)
        ]

    def ask_views(self, requests: Sequence[ViewsRequest]) -> list[ProbeResult]:
        """Ask views of tasks that are probed, all at once; return what was found before with what they say.

        Views that were asked already are not asked again.
        """
        started = time.perf_counter()
        new = [
            tuple(
                tuple(view for view in self._views(asked.question, each.n_views, each.seed) if view not in asked.views)
                for asked in each.found.asked
            )
            for each in requests
        ]
        prompts = [
            view.apply(asked.question)
            for each, of_task in zip(requests, new, strict=True)
            for asked, of_query in zip(each.found.asked, of_task, strict=True)
            for view in of_query
        ]
        said = iter(self._model.generate(prompts))
        seconds = (time.perf_counter() - started) / max(len(requests), 1)
        results = []
        for each, of_task in zip(requests, new, strict=True):
            asked = tuple(
                Asked(old.question, (*old.views, *more), (*old.said, *(as_search(next(said)) for _ in more)))
                for old, more in zip(each.found.asked, of_task, strict=True)
            )
            n_prompts = each.found.n_prompts + sum(map(len, of_task))
            results.append(replace(each.found, asked=asked, n_prompts=n_prompts, seconds=each.found.seconds + seconds))
        return results

    def _probe(self, tasks: Sequence[Task], seed: int, held_out: bool) -> list[ProbeResult]:
        started = time.perf_counter()
        questions = [question for task in tasks for question in _questions(task)]
        chosen = [self._views(question, self.n_views, seed) for question in questions]
        rewritten = [view.apply(question) for question, of in zip(questions, chosen, strict=True) for view in of]
        generations = self._model.generate([*questions, *rewritten], score_demonstrations=True)
        seconds = time.perf_counter() - started
        straight, others = iter(generations[: len(questions)]), iter(generations[len(questions) :])
        asked = iter(
            [
                Asked(question, (Augmentation(), *of), tuple(map(as_search, (next(straight), *_next(others, len(of))))))
                for question, of in zip(questions, chosen, strict=True)
            ]
        )
        shares = seconds / max(len(tasks), 1), seconds / max(len(generations), 1)
        results = [_result(task, _next(asked, len(task.queries)), *shares) for task in tasks]
        return self.hold_out(list(zip(tasks, results, strict=True))) if held_out else results

    def _views(self, question: Task, n: int, seed: int) -> tuple[Augmentation, ...]:
        """Return up to n views beside the question as it is, without those that do not fit the model."""
        if n == 0:
            return ()
        return tuple(view for view in views(question, 1 + n, seed)[1:] if self._model.fits(view.apply(question)))

    def _held_out_scores(self, tasks: Sequence[Task]) -> tuple[list[tuple[OutputScore, ...]], list[bool]]:
        """Return the scores of each task's demonstrations, each held out in turn, and whether they are new."""
        sets = {task.demonstrations_fingerprint: task for task in tasks}
        scores = {key: found for key in sets if (found := self._remembered(key)) is not None}
        new = {key: task for key, task in sets.items() if key not in scores}
        scores.update(zip(new, self._score_held_out(list(new.values())), strict=True))
        keys = [task.demonstrations_fingerprint for task in tasks]
        return [scores[key] for key in keys], [key in new for key in keys]

    def _score_held_out(self, tasks: Sequence[Task]) -> list[tuple[OutputScore, ...]]:
        """Score the demonstrations of each task, each held out in turn, and remember the scores."""
        sequences = [list(leave_one_out(task)) if len(task.demonstrations) > 1 else [] for task in tasks]
        scored = iter(self._model.score([each for of_task in sequences for each in of_task]))
        scores = [_next(scored, len(of_task)) for of_task in sequences]
        with self._lock:
            for task, of_task in zip(tasks, scores, strict=True):
                if of_task:
                    self._held_out[task.demonstrations_fingerprint] = of_task
            while len(self._held_out) > self._n_remembered:
                self._held_out.popitem(last=False)
        return scores

    def _remembered(self, key: str) -> tuple[OutputScore, ...] | None:
        with self._lock:
            if key in self._held_out:
                self._held_out.move_to_end(key)
            return self._held_out.get(key)


def _questions(task: Task) -> list[Task]:
    return [task.for_query(i) for i in range(len(task.queries))]


def _next(things: Iterator[Thing], n: int) -> tuple[Thing, ...]:
    return tuple(islice(things, n))


def _with_held_out(found: ProbeResult, held_out: tuple[OutputScore, ...], is_new: bool, seconds: float) -> ProbeResult:
    return replace(
        found,
        loo_nll=tuple(score.nll_per_token for score in held_out),
        loo_exact=tuple(score.exact for score in held_out),
        n_prompts=found.n_prompts + (len(held_out) if is_new else 0),
        seconds=found.seconds + seconds,
    )


def _result(task: Task, asked: tuple[Asked, ...], seconds: float, prompt_s: float) -> ProbeResult:
    said: list[Generation] = [each.said[0].greedy for each in asked]
    sureness = sureness_of(said)
    return ProbeResult(
        answers=tuple(map(answer_of, said)),
        asked=asked,
        answer_log_probability=sum(each.log_probability for each in said),
        answer_tokens=sum(len(each.token_log_probabilities) for each in said),
        answer_entropy=None if sureness is None else sureness.entropy,
        answer_margin=None if sureness is None else sureness.margin,
        answer_least_margin=None if sureness is None else sureness.least_margin,
        demonstration_nll=tuple(score.nll_per_token for score in said[0].demonstrations),
        demonstration_exact=tuple(score.exact for score in said[0].demonstrations),
        loo_nll=(),
        loo_exact=(),
        hidden=projected(said[0].hidden) if task.kind == "text" else (),
        prompt_tokens=said[0].prompt_tokens,
        n_prompts=sum(len(each.said) for each in asked),
        prompt_s=prompt_s,
        seconds=seconds,
    )
