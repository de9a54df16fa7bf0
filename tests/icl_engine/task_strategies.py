"""Hypothesis strategies for values and tasks: small ones, most grids not square, so that symmetries and ties occur."""

from __future__ import annotations

from hypothesis import strategies as st

from icl_engine.task import Grid, Task


def grids(max_side: int = 5, colours: int = 10) -> st.SearchStrategy[Grid]:
    sides = st.tuples(st.integers(1, max_side), st.integers(1, max_side))
    return sides.flatmap(lambda shape: _grids_of(shape[0], shape[1], colours))


def rows(max_side: int = 6) -> st.SearchStrategy[Grid]:
    return st.integers(1, max_side).flatmap(lambda n: _grids_of(1, n, 10))


def texts() -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def sentences() -> st.SearchStrategy[str]:
    """Texts of six words or more: common words, others, digits, marks, and unlike spaces between them."""
    words = st.sampled_from(["the", "Is", "not", "(", "12", "zebu", "größer", "Sara,", "->", "[[", "yes."]) | texts()
    spaces = st.sampled_from([" ", " ", " ", "  ", "\n"])
    pieces = st.lists(st.tuples(words, spaces), min_size=6, max_size=9)
    return pieces.map(lambda given: "a b c d e f " + "".join(word + space for word, space in given))


def grid_tasks() -> st.SearchStrategy[Task]:
    return st.one_of(_tasks_of(grids()), _tasks_of(rows()))


def text_tasks() -> st.SearchStrategy[Task]:
    return _tasks_of(texts())


def sentence_tasks() -> st.SearchStrategy[Task]:
    return _tasks_of(sentences(), outputs=sentences() | texts())


def _grids_of(n_rows: int, n_columns: int, colours: int) -> st.SearchStrategy[Grid]:
    row = st.tuples(*[st.integers(0, colours - 1)] * n_columns)
    return st.tuples(*[row] * n_rows)


def _tasks_of(
    values: st.SearchStrategy[Grid] | st.SearchStrategy[str], outputs: st.SearchStrategy[str] | None = None
) -> st.SearchStrategy[Task]:
    pairs = st.lists(st.tuples(values, values if outputs is None else outputs), min_size=1, max_size=4)
    queries = st.lists(values, min_size=1, max_size=3)
    return st.builds(
        lambda pairs, queries: Task.parse(
            {"demonstrations": [{"input": a, "output": b} for a, b in pairs], "queries": queries}
        ),
        pairs,
        queries,
    )
