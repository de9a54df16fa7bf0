"""The embedded model's vocabulary: grid cells, structure tokens and UTF-8 bytes, 288 ids in all. Knows nothing of
models.

A task is written as one token sequence, demonstration after demonstration:

    START [INSTRUCTION bytes END] (INPUT value OUTPUT value END)* INPUT value OUTPUT

A grid is its rows of cells, each closed by ROW_END; a text is its UTF-8 bytes, so that every string that can be encoded
has ids.
"""

from collections.abc import Sequence

from icl_engine.task import Grid

PAD, START, INPUT, OUTPUT, ROW_END, END, INSTRUCTION = 10, 11, 12, 13, 14, 15, 16  # ids 0..9 are the ten colours
BYTE_0 = 32  # ids 32..287 are the bytes 0..255; 17..31 are spare
VOCABULARY_SIZE = BYTE_0 + 256
N_COLOURS = 10


def value_ids(value: str | Sequence[Sequence[int]]) -> list[int]:
    """Return the ids of a grid (cells, each row closed by ROW_END) or of a text (its UTF-8 bytes)."""
    if isinstance(value, str):
        return [BYTE_0 + byte for byte in value.encode("utf-8")]
    return [token for row in value for token in (*row, ROW_END)]


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


def text_of(ids: Sequence[int]) -> str | None:
    """Return the text written by `ids` (END dropped), or None where they hold a structure token, are not UTF-8, or are
    none.
    """
    if not ids or any(token < BYTE_0 for token in ids):
        return None
    try:
        return bytes(token - BYTE_0 for token in ids).decode("utf-8")
    except UnicodeDecodeError:
        return None
