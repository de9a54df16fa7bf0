"""How `pieces.py` was made: the commonest words and marks of generated tasks in sentences.

    python -m icl_engine.embedded.count_pieces > pieces.py

Weights belong to the pieces they were trained with: a new list needs new weights.
"""

import json
import random
from collections import Counter

from icl_engine.embedded.corpus import Corpus
from icl_engine.embedded.vocabulary import is_in_sentences, pieces_of

N_TASKS = 60_000
N_PIECES = 1536  # 95 % of all that is counted


def common_pieces(n_tasks: int, n_pieces: int, seed: int = 0) -> list[str]:
    """Return the pieces of two characters or more that occur most often in generated tasks, sorted by text."""
    corpus, rng, counts = Corpus.of(), random.Random(f"pieces/{seed}"), Counter[str]()
    for _ in range(n_tasks):
        pairs = [(str(given), str(answer)) for given, answer in corpus.text(rng)]
        if is_in_sentences([given for given, _ in pairs]):
            counts.update(piece for pair in pairs for text in pair for piece in pieces_of(text))
    several = {piece: n for piece, n in counts.items() if len(piece) > 1 and piece.isascii()}
    return sorted(sorted(several, key=lambda piece: (-several[piece], piece))[:n_pieces])


def written(piece: str) -> str:
    """Return a piece as it stands in the list: in double quotes, unless it holds one."""
    return repr(piece) if '"' in piece else json.dumps(piece)


if __name__ == "__main__":
    print('"""Words, digits and marks with ids of their own, each with the space before it; see count_pieces.py."""\n')
    print("PIECES: tuple[str, ...] = (")
    for piece in common_pieces(N_TASKS, N_PIECES):
        print(f"    {written(piece)},")
    print(")")
