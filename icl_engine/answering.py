"""The ways to answer in context: without demonstrations, with them, and by a vote over augmented prompts.

The ttt arms answer through `answer_by_vote` too, with their adapter on the model.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from icl_engine.answer import MAX_CANDIDATES, Answer
from icl_engine.augmentations import Augmentation, views
from icl_engine.errors import released
from icl_engine.inference_settings import InferenceSettings
from icl_engine.language_model import Found, Generation, LanguageModel, RowAdapters, Search, as_transformers
from icl_engine.paper_views import LeaveOutView, paper_views
from icl_engine.task import Task, Value
from icl_engine.voting import Candidate, Vote, vote_by_score, vote_flat, vote_hierarchically

View = Augmentation | LeaveOutView
Request = TypeVar("Request")
Result = TypeVar("Result")


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


def answer_by_vote(
    model: LanguageModel,
    task: Task,
    *,
    n_views: int | None = None,
    seed: int = 0,
    settings: InferenceSettings | None = None,
    known: Sequence[Asked] = (),
) -> tuple[Answer, ...]:
    """Answer each query under several views, undo these on the answers and let those vote.

    The confidence is the best candidate's share of all views, those that gave no value included.

    Args:
        n_views: at most so many, in place of the settings' number.
        known: for each query what this same model has said to it greedily under some views: those are not asked again.
            It costs no tokens here.

    Raises:
        ContextOverflow: the task does not fit the model.
    Source: Akyürek et al. 2024 (arXiv 2411.07279), sec. 4 (augmented inference, hierarchical voting).
    """
    settings = settings or InferenceSettings()
    if n_views is not None:
        settings = replace(settings, n_views=n_views)
    with reading_as(model, settings):
        asked = _ask(model, [task], settings, None, seed=seed, known=known)
        return _chosen_of_each(model, asked, settings, None)[0]


def answer_many_by_vote(
    model: LanguageModel, tasks: Sequence[Task], settings: InferenceSettings, adapters: RowAdapters, *, seed: int = 0
) -> list[tuple[Answer, ...]]:
    """Answer several tasks at once as `answer_by_vote` does, each with its own adapter.

    Args:
        adapters: a slot for each of the tasks.

    Raises:
        ContextOverflow: a task does not fit the model.
    """
    with reading_as(model, settings):
        asked = _ask(model, tasks, settings, adapters, seed=seed)
        return _chosen_of_each(model, asked, settings, adapters)


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """A task to be answered by a vote, without an adapter; see `answer_by_vote`."""

    task: Task
    known: tuple[Asked, ...]  # of each query
    seed: int = 0


def answer_all_by_vote(
    model: LanguageModel, requests: Sequence[VoteRequest], settings: InferenceSettings
) -> list[tuple[Answer, ...] | Exception]:
    """Answer several tasks as `answer_by_vote` does, those of one seed at once.

    Returns:
        In the order of the requests, the answers or what kept them from being given.
    """

    def vote(alike: Sequence[VoteRequest]) -> list[tuple[Answer, ...]]:
        tasks, known = [each.task for each in alike], [asked for each in alike for asked in each.known]
        with reading_as(model, settings):
            asked = _ask(model, tasks, settings, None, seed=alike[0].seed, known=known)
            return _chosen_of_each(model, asked, settings, None)

    results: dict[int, tuple[Answer, ...] | Exception] = {}
    for seed in dict.fromkeys(each.seed for each in requests):
        places = [i for i, each in enumerate(requests) if each.seed == seed]
        results.update(zip(places, _at_once_or_each(vote, [requests[i] for i in places]), strict=True))
    return [results[i] for i in range(len(requests))]


def answer_all_zero_shot(model: LanguageModel, tasks: Sequence[Task]) -> list[tuple[Answer, ...] | Exception]:
    """Answer several tasks at once as `answer_zero_shot` does.

    Returns:
        In the order of the tasks, the answers or what kept them from being given.
    """

    def answer(tasks: Sequence[Task]) -> list[tuple[Answer, ...]]:
        bare = [task.replace(demonstrations=()) for task in tasks]
        said = iter(model.generate([task.for_query(i) for task in bare for i in range(len(task.queries))]))
        return [tuple(answer_of(next(said)) for _ in task.queries) for task in tasks]

    return _at_once_or_each(answer, tasks)


def _at_once_or_each(
    work: Callable[[Sequence[Request]], Sequence[Result]], asked: Sequence[Request]
) -> list[Result | Exception]:
    """Do it for all at once or, where that fails, for each by itself: the fault of one must not cost the others."""
    try:
        return [*work(asked)]
    except Exception as error:
        if len(asked) == 1:
            return [released(error)]
    return [_at_once_or_each(work, [each])[0] for each in asked]


@dataclass(frozen=True, slots=True)
class Asked:
    """One query, and what was said to it under each view."""

    question: Task
    views: tuple[View, ...]
    said: tuple[Search, ...]  # one per view; of greedy decoding what was said is all that was found

    @property
    def greedy_values(self) -> tuple[Value | None, ...]:
        """What was said greedily under each view, in the question's own terms."""
        said = [search.greedy.value for search in self.said]
        return tuple(
            None if value is None else view.undo_value(value) for view, value in zip(self.views, said, strict=True)
        )

    @property
    def votes(self) -> tuple[Vote, ...]:
        """Every answer found, in the question's own terms."""
        return tuple(
            Vote(view.undo_value(found.value), view.transform, found.log_probability)
            for view, search in zip(self.views, self.said, strict=True)
            for found in _with_greedy(search)
        )


def ask_under_views(
    model: LanguageModel, task: Task, settings: InferenceSettings, *, seed: int = 0
) -> tuple[Asked, ...]:
    """Ask each query under its views, and leave it to others to choose from what is said.

    A view that does not fit the model, as a wide grid turned upright may not, is left out. Where of the paper's views
    none fits, two demonstrations are left out instead of one, and then the task is asked as it is.

    Raises:
        ContextOverflow: the task does not fit the model.
    """
    with reading_as(model, settings):
        return _ask(model, [task], settings, None, seed=seed)[0]


def _ask(
    model: LanguageModel,
    tasks: Sequence[Task],
    settings: InferenceSettings,
    adapters: RowAdapters | None,
    *,
    seed: int,
    known: Sequence[Asked] = (),
) -> list[tuple[Asked, ...]]:
    """Ask all queries of all tasks at once; adapters have a slot for each task, and what is known is of each query."""
    questions, chosen, slots = [], [], []
    for i, task in enumerate(tasks):
        if settings.views == "paper":
            shared: list[Sequence[View]] = [paper_views(task, seed, n_left_out=n)[: settings.n_views] for n in (1, 2)]
        else:
            shared = [views(task, settings.n_views, seed)]
        for place in range(len(task.queries)):
            questions.append(task.for_query(place))
            chosen.append(_fitting(model, questions[-1], shared))
            slots.append(0 if adapters is None else adapters.slots[i])
    told = [_told(each) for each in known] if known and settings.decode == "greedy" else [{} for _ in questions]
    new = [tuple(view for view in each if view not in by_view) for each, by_view in zip(chosen, told, strict=True)]
    said = _said(model, questions, new, settings, adapters and replace(adapters, slots=slots))
    for by_view, more, answers in zip(told, new, said, strict=True):
        by_view.update(zip(more, answers, strict=True))
    asked = iter(
        [
            Asked(question, each, tuple(by_view[view] for view in each))
            for question, each, by_view in zip(questions, chosen, told, strict=True)
        ]
    )
    return [tuple(next(asked) for _ in task.queries) for task in tasks]


def reading_as(model: LanguageModel, settings: InferenceSettings) -> contextlib.AbstractContextManager[None]:
    """Let a transformers model read in the settings' precision, and remember prompts whose answers will be scored, for
    the time of a with block in which its weights stay as they are.
    """
    scored = settings.vote == "scored"
    own = as_transformers(model) if scored or settings.views_precision != "full" else None
    return contextlib.nullcontext() if own is None else own.reading_in(settings.views_precision, remembering=scored)


def _told(asked: Asked) -> dict[View, Search]:
    """Return what was said before under each view; it costs nothing more."""
    return {view: replace(said, tokens=0) for view, said in zip(asked.views, asked.said, strict=True)}


def answer_of(generation: Generation) -> Answer:
    """Make an answer of one greedy generation: its value is the only candidate, its probability the confidence."""
    if generation.value is None:
        return Answer((), 0.0, generation.tokens)
    candidate = Candidate(generation.value, 1, 1.0, generation.log_probability)
    return Answer((candidate,), math.exp(generation.log_probability), generation.tokens)


def _fitting(model: LanguageModel, question: Task, alternatives: Sequence[Sequence[View]]) -> tuple[View, ...]:
    """Return, of the first views of which any fits, those that do; the whole task as it is stays in any case."""
    for each in alternatives:
        fitting = tuple(view for view in each if view == Augmentation() or model.fits(view.apply(question)))
        if fitting or not each:
            return fitting
    return (Augmentation(),)


def _said(
    model: LanguageModel,
    questions: Sequence[Task],
    views: Sequence[Sequence[View]],
    settings: InferenceSettings,
    adapters: RowAdapters | None,
) -> list[tuple[Search, ...]]:
    """Ask every question under its views; all in one call, but for those that drafts come from."""
    if settings.decode == "search":
        prompts = [view.apply(question) for question, each in zip(questions, views, strict=True) for view in each]
        searches = iter(model.search(prompts, cut_off=settings.cut_off))
        return [tuple(next(searches) for _ in each) for each in views]
    n_first = 1 if settings.verify else 0
    first = _generated(model, questions, [each[:n_first] for each in views], [None] * len(questions), adapters)
    drafts = [
        each[0].undo_value(said[0].value) if said and said[0].value is not None else None
        for each, said in zip(views, first, strict=True)
    ]
    rest = _generated(model, questions, [each[n_first:] for each in views], drafts, adapters)
    return [tuple(map(as_search, (*one, *others))) for one, others in zip(first, rest, strict=True)]


def _generated(
    model: LanguageModel,
    questions: Sequence[Task],
    views: Sequence[Sequence[View]],
    drafts: Sequence[Value | None],
    adapters: RowAdapters | None,
) -> list[list[Generation]]:
    """Answer every question under its views, of which each may come out as the question's draft."""
    asked = [
        (view.apply(question), None if draft is None else view.apply_value(draft))
        for question, each, draft in zip(questions, views, drafts, strict=True)
        for view in each
    ]
    if adapters is not None:
        slots = [slot for slot, each in zip(adapters.slots, views, strict=True) for _ in each]
        adapters = replace(adapters, slots=slots)
    generations = iter(
        model.generate([task for task, _ in asked], drafts=[draft for _, draft in asked], adapters=adapters)
    )
    return [[next(generations) for _ in each] for each in views]


def as_search(said: Generation) -> Search:
    """Make what was found of one greedy generation: its value, if it has one."""
    found = () if said.value is None else (Found(said.value, said.log_probability),)
    return Search(said, found, said.tokens)


def _with_greedy(search: Search) -> tuple[Found, ...]:
    """Return all that was found; the greedy answer is part of it, however unlikely."""
    said = search.greedy
    if said.value is None or said.value in [found.value for found in search.found]:
        return search.found
    return (*search.found, Found(said.value, said.log_probability))


def choose_answer(model: LanguageModel, asked: Asked, settings: InferenceSettings) -> Answer:
    """Choose the answer to a query from what was said to it, by the settings' vote.

    Raises:
        OutOfMemory: candidates are scored, and not even one fits the device's memory.
    """
    with reading_as(model, settings):
        return _chosen(model, [asked], settings)[0]


def _chosen_of_each(
    model: LanguageModel, asked: Sequence[Sequence[Asked]], settings: InferenceSettings, adapters: RowAdapters | None
) -> list[tuple[Answer, ...]]:
    """Choose the answers to the queries of several tasks; adapters have a slot for each task."""
    if adapters is not None:
        slots = [slot for slot, of_task in zip(adapters.slots, asked, strict=True) for _ in of_task]
        adapters = replace(adapters, slots=slots)
    chosen = iter(_chosen(model, [each for of_task in asked for each in of_task], settings, adapters))
    return [tuple(next(chosen) for _ in of_task) for of_task in asked]


def _chosen(
    model: LanguageModel, asked: Sequence[Asked], settings: InferenceSettings, adapters: RowAdapters | None = None
) -> list[Answer]:
    """Choose the answers to several queries, whose candidates are scored in one call; adapters have a slot for each."""
    votes = [each.votes for each in asked]
    # of one value there is nothing to choose
    judged = [i for i, each in enumerate(votes) if settings.vote == "scored" and len({vote.value for vote in each}) > 1]
    if adapters is not None:
        adapters = replace(adapters, slots=[adapters.slots[i] for i in judged])
    judgements = _judgements(model, [asked[i] for i in judged], settings.n_scored, adapters)
    by_query = dict(zip(judged, judgements, strict=True))
    answers = []
    for i, each in enumerate(asked):
        tokens = sum(search.tokens for search in each.said)
        if i in by_query:
            candidates = vote_by_score(votes[i], by_query[i].scores)
            tokens += by_query[i].tokens
        else:
            candidates = vote_flat(votes[i]) if settings.vote == "flat" else vote_hierarchically(votes[i])
        confidence = candidates[0].n_votes / len(each.views) if candidates else 0.0
        answers.append(Answer(candidates[:MAX_CANDIDATES], confidence, tokens))
    return answers


@dataclass(frozen=True, slots=True)
class _Judgement:
    """What the model says to a query's candidates."""

    scores: dict[Value, float]  # nats, mean over views
    tokens: int  # read for it, each prompt once, also where it is remembered: so that they hang on the task alone


def _judgements(
    model: LanguageModel, asked: Sequence[Asked], n_scored: int, adapters: RowAdapters | None
) -> list[_Judgement]:
    """Score the most voted for candidates of each query under all of its views: the mean log-probability.

    A view under which one of them would not fit the model speaks for none.
    """
    candidates = [[candidate.value for candidate in vote_flat(each.votes)[:n_scored]] for each in asked]
    comparing = [_comparing(model, each, values) for each, values in zip(asked, candidates, strict=True)]
    answered = [each for of_query in comparing for of_view in of_query for each in of_view.answered]
    if adapters is not None:
        n_each = [sum(len(of_view.answered) for of_view in of_query) for of_query in comparing]
        adapters = replace(
            adapters, slots=[slot for slot, n in zip(adapters.slots, n_each, strict=True) for _ in range(n)]
        )
    scores = iter(model.score(answered, adapters=adapters) if answered else ())
    judgements = []
    for values, of_query in zip(candidates, comparing, strict=True):
        sums, n_read = dict.fromkeys(values, 0.0), sum(of_view.prompt_tokens for of_view in of_query)
        for _ in of_query:
            for value in values:
                score = next(scores)
                sums[value] -= score.nll / len(of_query)
                n_read += score.n_tokens
        judgements.append(_Judgement(sums, n_read))
    return judgements


@dataclass(frozen=True, slots=True)
class _Compared:
    """The candidates under one view."""

    answered: tuple[tuple[Task, Value], ...]
    prompt_tokens: int


def _comparing(model: LanguageModel, asked: Asked, candidates: Sequence[Value]) -> list[_Compared]:
    """Return the candidates as each view puts them, without views under which one does not fit the model."""
    rewritten = [
        _Compared(tuple((prompt, view.apply_value(value)) for value in candidates), search.greedy.prompt_tokens)
        for view, search in zip(asked.views, asked.said, strict=True)
        for prompt in [view.apply(asked.question)]
    ]
    return [each for each in rewritten if all(model.fits(*answered) for answered in each.answered)]
