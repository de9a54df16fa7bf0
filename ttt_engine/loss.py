"""Which tokens of a training sequence are learned. Knows nothing of models, and computes no loss."""

from __future__ import annotations

from icl_engine.encoding import Encoded
from ttt_engine.config import LossOn

Spans = tuple[tuple[int, int], ...]  # half-open [start, stop), in order, none touching another's tokens


def target_spans(encoded: Encoded, loss_on: LossOn = "after_first") -> Spans:
    """Return the spans of the tokens that a task, encoded with its answer, is trained to predict.

    `last` lies within `after_first`, that within `outputs`, and that within `all`:

    - `after_first`: the outputs after the first demonstration's, which nothing shown foretells, and the answer; where
      the answer is the only output, the answer.
    - `last`: the answer alone.
    - `outputs`: every output, the first included, and the answer.
    - `all`: every token but the first, which nothing precedes; inputs too.

    Source: Akyürek et al. 2024 (arXiv 2411.07279), sec. 3 (demonstration loss, and the ablations "no demonstration
    loss" and "loss on inputs and outputs").
    """
    if loss_on == "after_first":
        return encoded.outputs[1:] or encoded.outputs
    if loss_on == "last":
        return encoded.outputs[-1:]
    if loss_on == "outputs":
        return encoded.outputs
    return ((1, len(encoded.ids)),)
