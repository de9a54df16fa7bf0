"""Search over everything a model could answer: every answer above a probability, and the greedy one.

All prefixes of one length are read in one batch. It finds what a depth-first search finds and reads what that reads,
but the model runs once per length: of all prefixes of one length no more than 1 / cut_off can be as likely as that, so
they can be held at once. Knows nothing of tasks.

Source: Franzen et al. 2025, "Product of Experts with LLMs" (depth-first search with a probability cut-off).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from icl_engine.decoding import Constraint, Decoded, constrained
from icl_engine.reading import OnRead, Positions, read_prompts


@dataclass(frozen=True, slots=True)
class Leaf:
    """One answer that ended."""

    ids: tuple[int, ...]  # without the end
    log_probability: float  # nats, the end included


@dataclass(frozen=True, slots=True)
class SearchedPrompt:
    """What the search found for one prompt."""

    greedy: Decoded  # however unlikely
    leaves: tuple[Leaf, ...]  # at or above the cut-off, best first; the greedy answer is among them if it is
    n_read: int  # tokens read after the prompt


@torch.inference_mode()
def search(
    module: Any,
    prompts: Sequence[Sequence[int]],
    *,
    cut_off: float,
    max_new_tokens: Sequence[int],
    end_ids: frozenset[int],
    pad_id: int,
    positions: Positions,
    constraint: Constraint,
    prefix: Sequence[int] = (),
    max_nodes: int = 4096,
    on_read: OnRead = lambda reading, last_logits: None,
) -> list[SearchedPrompt]:
    """Find, for every prompt, each answer of at least this probability.

    Args:
        cut_off: probability of a whole answer, above 0, at most 1.
        max_new_tokens: for each prompt, how long an answer may be.
        prefix: what stands before every prompt: read once, for all of them.
        max_nodes: tokens read per prompt, after which only its greedy answer goes on.
        on_read: told what is read before anything is written.
    """
    reading, _, last = read_prompts(module, prompts, pad_id=pad_id, positions=positions, prefix=prefix)
    logits = last[:, -1]
    on_read(reading, logits)
    branches = [_Branch(prompt) for prompt in range(len(prompts))]
    greedy: dict[int, Decoded] = {}
    leaves: list[list[Leaf]] = [[] for _ in prompts]
    n_read = Counter[int]()
    while True:
        growing: list[tuple[int, _Branch]] = []  # with the row each grows from
        for row, branch, ended in _grown(branches, *constrained(logits, constraint), math.log(cut_off), end_ids):
            if ended and branch.log_probability >= math.log(cut_off):
                leaves[branch.prompt].append(Leaf(branch.ids, branch.log_probability))
            if not ended and len(branch.ids) < max_new_tokens[branch.prompt]:
                growing.append((row, branch))
            elif branch.greedy:
                greedy[branch.prompt] = Decoded(branch.ids, branch.log_probabilities, ended)
        n_nodes = n_read + Counter(branch.prompt for _, branch in growing)
        growing = [(row, branch) for row, branch in growing if branch.greedy or n_nodes[branch.prompt] <= max_nodes]
        if not growing:
            break
        n_read.update(branch.prompt for _, branch in growing)
        rows, branches = [row for row, _ in growing], [branch for _, branch in growing]
        tokens = [branch.ids[-1] for branch in branches]
        reading.keep(rows)
        constraint.keep(rows)
        constraint.chose(tokens)
        logits = reading.read_token(tokens)
    return [
        SearchedPrompt(greedy[i], tuple(sorted(found, key=lambda leaf: (-leaf.log_probability, leaf.ids))), n_read[i])
        for i, found in enumerate(leaves)
    ]


@dataclass(frozen=True, slots=True)
class _Branch:
    """A beginning of an answer."""

    prompt: int
    ids: tuple[int, ...] = ()
    log_probabilities: tuple[float, ...] = ()
    greedy: bool = True

    @property
    def log_probability(self) -> float:
        return math.fsum(self.log_probabilities)


def _grown(
    branches: Sequence[_Branch], allowed: torch.Tensor, log_p: torch.Tensor, least: float, end_ids: frozenset[int]
) -> list[tuple[int, _Branch, bool]]:
    """Return every way in which a branch goes on that is likely enough or greedy: its row, the new branch, its end.

    Args:
        allowed: the tokens that `log_p` is of.
    """
    so_far = torch.tensor([branch.log_probability for branch in branches], device=log_p.device)
    best = log_p.argmax(-1)
    going_on = log_p + so_far[:, None] >= least
    going_on[torch.arange(len(branches)), best] |= torch.tensor([b.greedy for b in branches], device=log_p.device)
    rows, places = going_on.nonzero(as_tuple=True)
    grown = []
    for row, token, likeliest, chance in zip(
        rows.tolist(),
        allowed[places].tolist(),
        allowed[best[rows]].tolist(),
        log_p[rows, places].tolist(),
        strict=True,
    ):
        branch, ended = branches[row], token in end_ids
        ids = branch.ids if ended else (*branch.ids, token)
        greedy = branch.greedy and token == likeliest
        grown.append((row, _Branch(branch.prompt, ids, (*branch.log_probabilities, chance), greedy), ended))
    return grown
