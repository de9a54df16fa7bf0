"""The probe: one in-context pass over a task that gives its answer and every sign of how well the model has understood
it.

The answer is the `icl` arm's answer, so probing before deciding costs nothing where the decision is `icl`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from icl_engine.answer import Answer
from icl_engine.answering import answer_of
from icl_engine.language_model import LanguageModel
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
    loo_nll: tuple[
        float, ...
    ]  # nats per token of each output given all other demonstrations; empty with fewer than two
    loo_exact: tuple[bool, ...]
    prompt_tokens: int
    seconds: float

    @property
    def answer(self) -> Answer:
        """The answer to the first query."""
        return self.answers[0]

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return sum(answer.tokens for answer in self.answers) + len(self.loo_nll) * self.prompt_tokens


def probe(model: LanguageModel, task: Task) -> ProbeResult:
    """Answer the task in context and score its demonstrations, in order and held out.

    Raises:
        ContextOverflow: the task does not fit the model.
    """
    started = time.perf_counter()
    generations = model.generate([task.for_query(i) for i in range(len(task.queries))])
    held_out = list(leave_one_out(task)) if len(task.demonstrations) > 1 else []
    loo = [scores[-1] for scores in model.score(held_out)]
    shown = generations[0].demonstrations
    return ProbeResult(
        answers=tuple(answer_of(generation) for generation in generations),
        answer_log_probability=sum(generation.log_probability for generation in generations),
        answer_tokens=sum(len(generation.token_log_probabilities) for generation in generations),
        demonstration_nll=tuple(score.nll_per_token for score in shown),
        demonstration_exact=tuple(score.exact for score in shown),
        loo_nll=tuple(score.nll_per_token for score in loo),
        loo_exact=tuple(score.exact for score in loo),
        prompt_tokens=generations[0].prompt_tokens,
        seconds=time.perf_counter() - started,
    )
