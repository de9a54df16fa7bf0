"""The pretraining corpus: generated tasks and, where given, re-arc pairs, packed into rows of one fixed length.

The rows of a step depend on (seed, step) alone, so that a run stopped anywhere goes on with the rows it would have
seen.
"""

import gzip
import hashlib
import json
import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from icl_engine.embedded.vocabulary import END, INPUT, OUTPUT, START, is_in_sentences, value_ids
from icl_engine.errors import UnreadableTaskFile
from icl_engine.families import FAMILIES, HELD_OUT, Family, Pair, RawGrid, Rejected, sample_task
from icl_engine.families.wordings import small_talk

# the share of tasks drawn from each source; "extra" falls to "grid" where no extra data is given
SHARES: Mapping[str, float] = {"row": 0.11, "grid": 0.16, "extra": 0.13, "text": 0.60}
KINDS = ("row", "grid", "text")
COMPOSED_SHARE = 0.2  # of grid and of row tasks
SMALL_TALK_SHARE = 0.35  # of text tasks that are trained on: words beside the point around every input
PAIRS_PER_TASK = (3, 6)  # of a grid task, inclusive
PAIRS_PER_TEXT = (3, 12)
SENTENCES_SHARE = 0.67  # of text tasks that are trained on; by chance it would be a quarter
MAX_EXTRA_CELLS = 300  # of one extra pair, input and output together

ExtraData = Mapping[str, list[tuple[RawGrid, RawGrid]]]


def is_held_out_arc_task(task_id: str) -> bool:
    """Say whether an ARC training task is kept from training: a fixed tenth, for choosing settings and for the
    demonstration.
    """
    return int(task_id, 16) % 10 == 0


def load_extra(path: Path) -> ExtraData:
    """Read pairs of grids per task from a gzipped JSONL file (`{"id", "pairs": [["12/34", "21/43"], ...]}`).

    Left out are held-out tasks, pairs of more than MAX_EXTRA_CELLS and tasks with fewer others than a task may show.
    An id is a hexadecimal number, as those of ARC are.

    Raises:
        UnreadableTaskFile: the file is missing or not of this form.
    """
    extra: dict[str, list[tuple[RawGrid, RawGrid]]] = {}
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                pairs = [(_grid(given), _grid(answer)) for given, answer in entry["pairs"] if _fits(given, answer)]
                if len(pairs) >= PAIRS_PER_TASK[1] and not is_held_out_arc_task(entry["id"]):
                    extra[entry["id"]] = pairs
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise UnreadableTaskFile(
            f"{path}: {error}", field="extra_data", remedy="Give a gzipped JSONL file of grid pairs, or none."
        ) from error
    return extra


def _fits(given: str, answer: str) -> bool:
    return len(given) + len(answer) - given.count("/") - answer.count("/") <= MAX_EXTRA_CELLS


def _grid(text: str) -> RawGrid:
    rows = text.split("/")
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"the rows of the grid {text!r} are of several lengths")
    return [[int(cell) for cell in row] for row in rows]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Where training rows come from: the families that are trained on and the extra pairs."""

    families: Mapping[str, tuple[Family, ...]]  # by source: row, grid, text
    extra: ExtraData

    @classmethod
    def of(cls, *, held_out: bool = False, extra: ExtraData | None = None) -> "Corpus":
        """Return the corpus of all families but the held-out ones or, with `held_out`, of those alone."""
        chosen = [family for family in FAMILIES if (family.name in HELD_OUT) == held_out]
        return cls({kind: tuple(family for family in chosen if family.kind == kind) for kind in KINDS}, extra or {})

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the names of the families and the extra pairs: another corpus, another fingerprint."""
        names = {source: [family.name for family in families] for source, families in self.families.items()}
        return hashlib.sha256(json.dumps([names, dict(self.extra)]).encode()).hexdigest()

    def task(self, rng: random.Random) -> list[Pair]:
        """Draw one task: its pairs of input and output."""
        source = rng.choices(list(SHARES), weights=list(SHARES.values()))[0]
        if source == "extra" and self.extra:
            return _extra_task(self.extra, rng, rng.randint(*PAIRS_PER_TASK))
        if source != "text":
            return self.generated(rng, "grid" if source == "extra" else source)
        return self.text(rng)

    def text(self, rng: random.Random) -> list[Pair]:
        """Draw one text task as they are trained on: often in sentences, some with words around it."""
        pairs = self._in_sentences(rng) if rng.random() < SENTENCES_SHARE else self.generated(rng, "text")
        if rng.random() < SMALL_TALK_SHARE:
            told = small_talk(rng)
            return [(told(str(given)), answer) for given, answer in pairs]
        return pairs

    def _in_sentences(self, rng: random.Random) -> list[Pair]:
        """Draw text tasks until one is in sentences."""
        while True:
            pairs = self.generated(rng, "text")
            if _is_in_sentences(pairs):
                return pairs

    def generated(self, rng: random.Random, kind: str) -> list[Pair]:
        """Draw one task of a family of this kind."""
        n_pairs = rng.randint(*(PAIRS_PER_TEXT if kind == "text" else PAIRS_PER_TASK))
        families = self.families[kind]
        composed = rng.random() < COMPOSED_SHARE
        families = tuple(family for family in families if family.name.startswith("composed_") == composed) or families
        try:
            return sample_task(rng, rng.choice(families), n_pairs)
        except Rejected:  # no usable draw in many tries
            return self.generated(rng, kind)

    def rows(self, n_rows: int, n_tokens: int, seed: int, step: int) -> npt.NDArray[np.int64]:
        """Return the token ids of one training step, (n_rows, n_tokens); each row begins with a task, none is padded.

        The last task of a row is cut where the row ends: its first demonstrations are a task too.
        """
        rng = random.Random(f"{seed}/{step}")
        rows = np.empty((n_rows, n_tokens), dtype=np.int64)
        for row in rows:
            filled = 0
            while filled < n_tokens:
                ids = task_ids(self.task(rng))[: n_tokens - filled]
                row[filled : filled + len(ids)] = ids
                filled += len(ids)
        return rows


def _extra_task(extra: ExtraData, rng: random.Random, n_pairs: int) -> list[Pair]:
    pairs = rng.sample(extra[rng.choice(list(extra))], n_pairs)
    colours = [0, *rng.sample(range(1, 10), 9)]
    flip, mirror, transpose = (rng.random() < 0.5 for _ in range(3))

    def rewrite(grid: RawGrid) -> RawGrid:
        grid = [[colours[cell] for cell in row] for row in (grid[::-1] if flip else grid)]
        grid = [row[::-1] for row in grid] if mirror else grid
        return [list(column) for column in zip(*grid, strict=True)] if transpose else grid

    return [(rewrite(given), rewrite(answer)) for given, answer in pairs]


def task_ids(pairs: list[Pair]) -> list[int]:
    """Return the tokens of a whole task: every pair with its output."""
    in_words = _is_in_sentences(pairs)
    ids = [START]
    for given, answer in pairs:
        ids += [INPUT, *value_ids(given, in_words=in_words), OUTPUT, *value_ids(answer, in_words=in_words), END]
    return ids


def _is_in_sentences(pairs: list[Pair]) -> bool:
    inputs = [given for given, _ in pairs if isinstance(given, str)]
    return bool(inputs) and is_in_sentences(inputs)


def output_weights(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return 1.0 where the NEXT token belongs to an output (its END included), else 0.0; shape (rows, tokens - 1)."""
    place = np.arange(rows.shape[1])
    last_output = np.maximum.accumulate(np.where(rows == OUTPUT, place, -1), axis=1)
    last_other = np.maximum.accumulate(np.where((rows == INPUT) | (rows == START), place, 0), axis=1)
    inside = last_output > last_other  # this token is an OUTPUT mark or belongs to an output
    weights = inside[:, :-1] & inside[:, 1:]
    return weights.astype(np.float32)


def validation_tasks(corpus: Corpus, n_per_kind: int, seed: int) -> dict[str, list[list[Pair]]]:
    """Return, by kind, `n_per_kind` generated tasks of `corpus`: always the same for a seed, whatever SHARES says."""
    rngs = {kind: random.Random(f"validation/2/{seed}/{kind}") for kind in KINDS}
    return {kind: [corpus.generated(rng, kind) for _ in range(n_per_kind)] for kind, rng in rngs.items()}
