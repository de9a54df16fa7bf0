"""The probe: one in-context pass over a task that gives its answer and every sign of how well the model has understood
it.

The answer is the `icl` arm's answer, so probing before deciding costs nothing where the decision is `icl`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from icl_engine.answer import Answer
from icl_engine.answering import answer_of
from icl_engine.errors import ContextOverflow, OutOfMemory
from icl_engine.language_model import Generation, LanguageModel, OutputScore
from icl_engine.leave_one_out import leave_one_out
from icl_engine.task import Task


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What one probe found. Scores are of the task's own demonstrations; a solution is never involved."""

    answers: tuple[Answer, ...]  # one per query, in context
    answer_log_probability: float  # nats, of all answers together
    answer_tokens: int  # written, in all answers together
    demonstration_nll: tuple[float, ...]  # nats per token of each output given the demonstrations before it
    demonstration_exact: tuple[bool, ...]
    loo_nll: tuple[float, ...]  # nats per token of each output given all other demonstrations; none with fewer than two
    loo_exact: tuple[bool, ...]
    prompt_tokens: int  # of the first query's prompt
    n_prompts: int  # read in this probe: one per query and, where not remembered, one per demonstration held out
    seconds: float

    @property
    def answer(self) -> Answer:
        """The answer to the first query."""
        return self.answers[0]

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return sum(answer.tokens for answer in self.answers) + (self.n_prompts - len(self.answers)) * self.prompt_tokens


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
    """

    def __init__(self, model: LanguageModel, n_remembered: int = 256) -> None:
        self._model = model
        self._n_remembered = n_remembered
        self._held_out: OrderedDict[str, tuple[OutputScore, ...]] = OrderedDict()

    def probe(self, task: Task) -> ProbeResult:
        """See `probe`."""
        started = time.perf_counter()
        generations = self._model.generate(_questions(task), score_demonstrations=True)
        held_out = self._held_out.get(task.demonstrations_fingerprint)
        n_scored = 0
        if held_out is None:
            held_out = self._score_held_out([task])[0]
            n_scored = len(held_out)
        return _result(generations, held_out, len(generations) + n_scored, time.perf_counter() - started)

    def probe_together(self, tasks: Sequence[Task]) -> list[ProbeResult | None]:
        """Probe several tasks at once, which takes less; they share the time evenly.

        What does not fit the model is left out (None), and everything where memory does not hold them together.
        """
        started = time.perf_counter()
        fitting = [task for task in tasks if all(map(self._model.fits, _questions(task)))]
        sets = {task.demonstrations_fingerprint: task for task in fitting}
        held_out = {key: self._held_out[key] for key in list(self._held_out) if key in sets}
        new = {key: task for key, task in sets.items() if key not in held_out}
        try:
            questions = [question for task in fitting for question in _questions(task)]
            generations = iter(self._model.generate(questions, score_demonstrations=True))
            held_out.update(zip(new, self._score_held_out(list(new.values())), strict=True))
        except (ContextOverflow, OutOfMemory):
            return [None] * len(tasks)
        seconds = (time.perf_counter() - started) / max(len(fitting), 1)
        found = {}
        for task in fitting:
            said = [next(generations) for _ in task.queries]
            scores = held_out[task.demonstrations_fingerprint]
            n_scored = len(scores) if task.demonstrations_fingerprint in new else 0
            found[id(task)] = _result(said, scores, len(said) + n_scored, seconds)
        return [found.get(id(task)) for task in tasks]

    def _score_held_out(self, tasks: Sequence[Task]) -> list[tuple[OutputScore, ...]]:
        """Score the demonstrations of each task, each held out in turn, and remember the scores."""
        sequences = [list(leave_one_out(task)) if len(task.demonstrations) > 1 else [] for task in tasks]
        scored = iter(self._model.score([each for of_task in sequences for each in of_task]))
        scores = [tuple(next(scored)[-1] for _ in of_task) for of_task in sequences]
        for task, of_task in zip(tasks, scores, strict=True):
            if of_task:
                self._held_out[task.demonstrations_fingerprint] = of_task
        while len(self._held_out) > self._n_remembered:
            self._held_out.popitem(last=False)
        return scores


def _questions(task: Task) -> list[Task]:
    return [task.for_query(i) for i in range(len(task.queries))]


def _result(
    generations: Sequence[Generation], held_out: tuple[OutputScore, ...], n_prompts: int, seconds: float
) -> ProbeResult:
    shown = generations[0].demonstrations
    return ProbeResult(
        answers=tuple(answer_of(generation) for generation in generations),
        answer_log_probability=sum(generation.log_probability for generation in generations),
        answer_tokens=sum(len(generation.token_log_probabilities) for generation in generations),
        demonstration_nll=tuple(score.nll_per_token for score in shown),
        demonstration_exact=tuple(score.exact for score in shown),
        loo_nll=tuple(score.nll_per_token for score in held_out),
        loo_exact=tuple(score.exact for score in held_out),
        prompt_tokens=generations[0].prompt_tokens,
        n_prompts=n_prompts,
        seconds=seconds,
    )
