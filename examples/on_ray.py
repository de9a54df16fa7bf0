"""Solve tasks on a Ray cluster: here one of this machine alone, with two workers; on a real one, nothing else changes
but the URL, and ledger and adapters are in PostgreSQL and Redis. Needs: pip install -c constraints.txt -e '.[ray]'
"""

from router import Router, Settings, Task

rows = [[0, 2, 2, 0, 0, 0], [3, 3, 3, 0, 0, 0], [0, 0, 0, 5, 0, 0], [0, 7, 7, 0, 0, 0]]


def shifted(row: list[int], by: int) -> list[int]:
    """The rule to be found: everything moves to the right."""
    return [0] * by + row[:-by]


tasks = [Task.from_pairs([(row, shifted(row, by)) for row in rows[:3]], rows[3], id=f"by {by}") for by in (1, 2)]

if __name__ == "__main__":
    with Router(Settings(executor="ray://local?workers=2&adapters=1")) as router:  # a batch of one for each of the two
        for solution in router.solve_many(tasks, arm="ttt"):
            print(solution, end="\n\n")
        print(router.explain(solution.trace_id))
