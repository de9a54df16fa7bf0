"""The embedded model's vocabulary: grid cells, structure tokens, UTF-8 bytes and common words. Knows nothing of models.

A task is written as one token sequence, demonstration after demonstration:

    START [INSTRUCTION text END] (INPUT value OUTPUT value END)* INPUT value OUTPUT

A grid is its rows of cells, each closed by ROW_END. A text of a task in sentences is written in common words, and in
bytes where a word is not common; a text of any other task is its bytes, letter by letter. So every string that can be
encoded has ids.
"""

import re
from collections.abc import Sequence

from icl_engine.embedded.pieces import PIECES
from icl_engine.task import Grid

PAD, START, INPUT, OUTPUT, ROW_END, END, INSTRUCTION = 10, 11, 12, 13, 14, 15, 16  # ids 0..9 are the ten colours
BYTE_0 = 32  # ids 32..287 are the bytes 0..255; 17..31 are spare
PIECE_0 = BYTE_0 + 256
VOCABULARY_SIZE = PIECE_0 + len(PIECES)
N_COLOURS = 10
WORDS_OF_A_SENTENCE = 6

_PIECE = re.compile(r" ?[A-Za-z]+| ?[^A-Za-z\s]|.", re.DOTALL)
_PIECE_IDS = {piece: PIECE_0 + i for i, piece in enumerate(PIECES)}
_BYTES_OF = [bytes([byte]) for byte in range(256)] + [piece.encode() for piece in PIECES]


def pieces_of(text: str) -> list[str]:
    """Cut a text into words, digits and marks, each with the space before it; a space is put before the first."""
    return _PIECE.findall(f" {text}") if text else []


def is_in_sentences(inputs: Sequence[str]) -> bool:
    """Say whether texts like these are read word by word: six words or more on average. Letters matter in shorter
    ones.
    """
    return sum(len(text.split()) for text in inputs) >= WORDS_OF_A_SENTENCE * len(inputs)


def value_ids(value: str | Sequence[Sequence[int]], *, in_words: bool = False) -> list[int]:
    """Return the ids of a grid (cells, each row closed by ROW_END) or of a text (bytes or, `in_words`, pieces too)."""
    if not isinstance(value, str):
        return [token for row in value for token in (*row, ROW_END)]
    if not in_words:
        return [BYTE_0 + byte for byte in value.encode("utf-8")]
    ids: list[int] = []
    for piece in pieces_of(value):
        known = _PIECE_IDS.get(piece)
        ids += [BYTE_0 + byte for byte in piece.encode("utf-8")] if known is None else [known]
    return ids


def grid_of(ids: Sequence[int]) -> Grid | None:
    """Return the grid written by `ids` (END dropped), or None where they do not form one: open row, ragged, empty."""
    rows: list[tuple[int, ...]] = []
    row: list[int] = []
    for token in ids:
        if token == ROW_END:
            rows.append(tuple(row))
            row = []
        elif token < N_COLOURS:
            row.append(token)
        else:
            return None
    widths = {len(cells) for cells in rows}
    return None if row or len(widths) != 1 or widths == {0} else tuple(rows)


def text_of(ids: Sequence[int], *, in_words: bool = False) -> str | None:
    """Return the text written by `ids` (END dropped), or None where they hold a structure token, are not UTF-8, or are
    none. `in_words`: the space that `pieces_of` puts before the first piece is dropped.
    """
    if not ids or any(token < BYTE_0 for token in ids):
        return None
    try:
        text = b"".join(_BYTES_OF[token - BYTE_0] for token in ids).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return (text.removeprefix(" ") or None) if in_words else text
