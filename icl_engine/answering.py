"""The ways to answer in context: without demonstrations, with them, and by a vote over augmented prompts.

The ttt arms answer through `answer_by_vote` too, with their adapter on the model.
"""

from __future__ import annotations

import math

from icl_engine.answer import MAX_CANDIDATES, Answer
from icl_engine.augmentations import Augmentation, views
from icl_engine.language_model import Generation, LanguageModel
from icl_engine.task import Task
from icl_engine.voting import Candidate, Vote, vote_hierarchically


def answer_zero_shot(model: LanguageModel, task: Task) -> tuple[Answer, ...]:
    """Answer each query from the instruction alone, demonstrations left out.

    Raises:
        ContextOverflow: the task does not fit the model.
    """
    bare = task.replace(demonstrations=())
    return tuple(map(answer_of, model.generate([bare.for_query(i) for i in range(len(task.queries))])))


def answer_in_context(model: LanguageModel, task: Task) -> tuple[Answer, ...]:
    """Answer each query with all demonstrations in the prompt, greedily.

    Raises:
        ContextOverflow: the task does not fit the model.
    """
    return tuple(map(answer_of, model.generate([task.for_query(i) for i in range(len(task.queries))])))


def answer_by_vote(model: LanguageModel, task: Task, *, n_views: int, seed: int = 0) -> tuple[Answer, ...]:
    """Answer each query under up to `n_views` augmentations, undo them on the answers and let those vote.

    The confidence is the best candidate's share of all views, those that gave no value included.

    Raises:
        ContextOverflow: the task does not fit the model.
    Source: Akyürek et al. 2024 (arXiv 2411.07279), sec. 4 (augmented inference, hierarchical voting).
    """
    questions = [task.for_query(i) for i in range(len(task.queries))]
    shared = views(task, n_views, seed)
    chosen = [
        tuple(view for view in shared if view == Augmentation() or model.fits(view.apply(question)))
        for question in questions
    ]  # a wide grid turned upright has more row ends: a view may be too long where the task itself is not
    prompts = [view.apply(question) for question, each in zip(questions, chosen, strict=True) for view in each]
    generations = iter(model.generate(prompts))
    answers = []
    for each in chosen:
        asked = [(view, next(generations)) for view in each]
        votes = [
            Vote(view.undo_value(said.value), view.transform, said.log_probability)
            for view, said in asked
            if said.value is not None
        ]
        candidates = vote_hierarchically(votes)[:MAX_CANDIDATES]
        confidence = candidates[0].n_votes / len(asked) if candidates else 0.0
        answers.append(Answer(candidates, confidence, sum(_tokens(said) for _, said in asked)))
    return tuple(answers)


def answer_of(generation: Generation) -> Answer:
    """Make an answer of one greedy generation: its value is the only candidate, its probability the confidence."""
    if generation.value is None:
        return Answer((), 0.0, _tokens(generation))
    candidate = Candidate(generation.value, 1, 1.0, generation.log_probability)
    return Answer((candidate,), math.exp(generation.log_probability), _tokens(generation))


def _tokens(generation: Generation) -> int:
    return generation.prompt_tokens + len(generation.token_log_probabilities)
