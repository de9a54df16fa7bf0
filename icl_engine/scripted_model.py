"""A language model that follows a script: for tests, examples and trying a policy without weights."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from icl_engine.language_model import Found, Generation, OutputScore, RowAdapters, Search
from icl_engine.task import Task, Value

_SURE, _SURPRISED = 0.01, 2.0  # nats per token where the script agrees with an output and where it does not
_DOUBT = -math.expm1(-_SURE)  # probability that is left for one other token
_ENTROPY = _SURE * (1.0 - _DOUBT) - _DOUBT * math.log(_DOUBT)  # nats
_MARGIN = -_SURE - math.log(_DOUBT)


@dataclass(slots=True)
class ScriptedModel:
    """Answers each task with `script(task)`; agrees with an output exactly where the script would have written it.

    >>> from icl_engine.task import Task
    >>> model = ScriptedModel(lambda task: task.query)
    >>> model.generate([Task.from_pairs([("a", "a")], "b")])[0].value
    'b'
    """

    script: Callable[[Task], Value | None]
    context_tokens: int = 4096
    tasks_seen: list[Task] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """A name for the script."""
        return hashlib.sha256(f"scripted/{getattr(self.script, '__name__', 'script')}".encode()).hexdigest()

    def fits(self, task: Task, answer: Value | None = None) -> bool:
        """Everything fits."""
        return True

    def generate(
        self,
        tasks: Sequence[Task],
        *,
        score_demonstrations: bool = False,
        drafts: Sequence[Value | None] | None = None,
        adapters: RowAdapters | None = None,
    ) -> list[Generation]:
        """Answer with the script; drafts and adapters change nothing."""
        self.tasks_seen += tasks
        return [self._generation(task, score_demonstrations) for task in tasks]

    def search(self, tasks: Sequence[Task], *, cut_off: float) -> list[Search]:
        """Find the script's answer alone."""
        searches = []
        for said in self.generate(tasks):
            found = () if said.value is None else (Found(said.value, said.log_probability),)
            searches.append(Search(said, found, said.tokens))
        return searches

    def score(
        self, answered: Sequence[tuple[Task, Value]], *, adapters: RowAdapters | None = None
    ) -> list[OutputScore]:
        """Score answers by whether the script would have written them."""
        self.tasks_seen += [task for task, _ in answered]
        return [_score(answer, self.script(task)) for task, answer in answered]

    def _generation(self, task: Task, score_demonstrations: bool) -> Generation:
        value = self.script(task)
        n_tokens = 1 if value is None else _n_tokens(value)
        prompt_tokens = sum(_n_tokens(shown.input) + _n_tokens(shown.output) for shown in task.demonstrations)
        shown = self._demonstrations(task) if score_demonstrations else ()
        return Generation(
            value=value,
            token_log_probabilities=(-_SURE,) * n_tokens,
            prompt_tokens=prompt_tokens + _n_tokens(task.query),
            demonstrations=shown,
            token_entropies=(_ENTROPY,) * n_tokens,
            token_margins=(_MARGIN,) * n_tokens,
            hidden=_hidden(task) if score_demonstrations else (),
        )

    def _demonstrations(self, task: Task) -> tuple[OutputScore, ...]:
        scores = []
        for i, shown in enumerate(task.demonstrations):
            before = task.demonstrations[:i]
            guess = self.script(task.replace(demonstrations=before, queries=(shown.input,))) if before else None
            scores.append(_score(shown.output, guess))
        return tuple(scores)


def _score(output: Value, guess: Value | None) -> OutputScore:
    n_tokens = _n_tokens(output)
    return OutputScore(n_tokens * (_SURE if output == guess else _SURPRISED), n_tokens, output == guess)


def _hidden(task: Task) -> tuple[float, ...]:
    """Return what stands for a hidden state: a few numbers from -1 to 1 by the task's content."""
    return tuple(byte / 127.5 - 1.0 for byte in bytes.fromhex(task.fingerprint)[:16])


def _n_tokens(value: Value) -> int:
    return 1 + (len(value) if isinstance(value, str) else sum(len(row) + 1 for row in value))
