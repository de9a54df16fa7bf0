"""Solve one task of grids and one of text, say what came of it, and ask why it was answered that way."""

from router import Router, Task

shift = Task.from_pairs(
    [
        ([0, 2, 2, 0, 0, 0, 0], [0, 0, 2, 2, 0, 0, 0]),
        ([3, 3, 3, 0, 0, 0, 0], [0, 3, 3, 3, 0, 0, 0]),
        ([0, 0, 0, 5, 0, 0, 0], [0, 0, 0, 0, 5, 0, 0]),
    ],
    [0, 7, 7, 0, 0, 0, 0],
    id="shift",
)
initials = Task.from_pairs(
    [("Ada Lovelace", "A.L."), ("Alan Turing", "A.T."), ("Grace Hopper", "G.H.")], "Barbara Liskov", id="initials"
)

with Router() as router:
    for task, right in ((shift, ((0, 0, 7, 7, 0, 0, 0),)), (initials, "B.L.")):
        solution = router.solve(task, deadline_s=60)
        print(solution)
        router.feedback(solution.trace_id, right in solution.answers[0].values)
        print(router.explain(solution.trace_id), end="\n\n")
