"""A gain model as the bytes of a policy file: a checked JSON object and raw arrays, never pickle.

The bytes are a magic number, the SHA-256 of all that follows, the length of the JSON, the JSON, and the arrays that it
lists, one after the other, little-endian. The same model gives the same bytes, and back again the same predictions to
the bit. Raw arrays rather than a zip of them: their sizes are known before anything is allocated, and there is nothing
to unpack.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np

from policies.errors import PolicyFileDamaged
from policies.gain_models.calibration import Calibration
from policies.gain_models.forest import ForestScores, Nodes
from policies.gain_models.heads import FLOOR, heads_of
from policies.gain_models.json_fields import Fields, Unreadable, canonical
from policies.gain_models.linear_scores import LinearScores
from policies.gain_models.model import LearnedGainModel, Provenance
from policies.gain_models.past_tasks import MAX_PAST_TASKS, PastTasks
from policies.gain_models.scaling import Scaler
from policies.policy_files import version_id_of

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Array = npt.NDArray[np.float64] | npt.NDArray[np.int32] | npt.NDArray[np.bool_]

MAGIC = b"TTTGAIN\x01"
SCHEMA = "gain model 1"
MAX_BYTES = 64 * 2**20
MOST_FEATURES, MOST_ARMS, MOST_NODES, MOST_KNOTS = 1_000, 64, 1_000_000, 100_000
MOST_FOLDS, MOST_AXES = 64, 3
KINDS = ("prior", "logistic", "trees")
DTYPES = {"f8": "<f8", "i4": "<i4", "b1": "|b1"}  # little-endian on every machine

_DIGEST, _LENGTH = 32, 8
_TOP = ("schema", "name", "arms", "features", "scores", "heads", "direct_weight", "past", "provenance", "arrays")
_FEATURE = ("name", "center", "scale", "missing_share")
_HEAD = ("name", "slope", "offset", "knots", "chances")
_PROVENANCE = ("n_rows", "training_digest", "feature_schema", "parent", "made_with", "settings")
_LINEAR, _FOREST = ("kind", "coef"), ("kind", "n_folds", "intercept", "least_error")
_ARRAY = ("name", "dtype", "shape")


def as_bytes(model: LearnedGainModel) -> bytes:
    """Return the content of a policy file, for `PolicyVersions.publish`."""
    arrays: dict[str, Array] = {"past_rows": model.past.rows, "past_quality": model.past.quality}
    scores = _scores_as_json(model.scores, arrays)
    made = {
        "schema": SCHEMA,
        "name": model.name,
        "arms": model.arms,
        "features": _features_as_json(model),
        "scores": scores,
        "heads": [
            {
                "name": str(head),
                "slope": curve.slope,
                "offset": curve.offset,
                "knots": None if curve.knots is None else curve.knots.tolist(),
                "chances": None if curve.chances is None else curve.chances.tolist(),
            }
            for head, curve in zip(heads_of(model.arms), model.calibrations, strict=True)
        ],
        "direct_weight": model.direct_weight.tolist(),
        "past": model.past.tasks,
        "provenance": _provenance_as_json(model.provenance),
        "arrays": [
            {"name": name, "dtype": _dtype_of(array), "shape": array.shape} for name, array in sorted(arrays.items())
        ],
    }
    text = canonical(made).encode()
    raw = [array.astype(DTYPES[_dtype_of(array)]).tobytes() for _, array in sorted(arrays.items())]
    body = b"".join([len(text).to_bytes(_LENGTH, "little"), text, *raw])
    return MAGIC + hashlib.sha256(body).digest() + body


def model_of(content: bytes, *, feature_schema: str | None = None) -> LearnedGainModel:
    """Return the model that `content` holds.

    Args:
        feature_schema: what features mean here; a model of any other schema is refused. None: any will do.

    Raises:
        PolicyFileDamaged: the bytes are damaged, of another kind or release, or of another feature schema.
    """
    try:
        fields, arrays = _opened(content)
        model = _model(fields, arrays)
        if feature_schema is not None and model.provenance.feature_schema != feature_schema:
            raise Unreadable(
                f"its features are of schema {model.provenance.feature_schema!r}, those here of {feature_schema!r}"
            )
    except Unreadable as error:
        raise PolicyFileDamaged(version_id_of(content), "gain model", str(error)) from error
    return model


def _opened(content: bytes) -> tuple[Fields, dict[str, Array]]:
    """Return the JSON and the arrays, once the bytes are known to be those that were written."""
    start = len(MAGIC) + _DIGEST
    if len(content) > MAX_BYTES or not content.startswith(MAGIC) or len(content) < start + _LENGTH:
        raise Unreadable("it is no gain model of this release")
    body = content[start:]
    if hashlib.sha256(body).digest() != content[len(MAGIC) : start]:
        raise Unreadable("its bytes are not those that were written")
    length = int.from_bytes(body[:_LENGTH], "little")
    if length > len(body) - _LENGTH:
        raise Unreadable("its JSON is cut off")
    fields = Fields.parsed(body[_LENGTH : _LENGTH + length], "model", _TOP)
    return fields, _arrays(fields, body[_LENGTH + length :])


def _arrays(fields: Fields, raw: bytes) -> dict[str, Array]:
    found: dict[str, Array] = {}
    at = 0
    for each in fields.objects("arrays", _ARRAY):
        name, dtype = each.text("name"), each.text("dtype")
        shape = each.counts("shape", MAX_BYTES)
        if dtype not in DTYPES or name in found or len(shape) > MOST_AXES:
            raise Unreadable(f"array {name!r} is of no known type or shape, or there twice")
        count = math.prod(shape)
        end = at + count * np.dtype(DTYPES[dtype]).itemsize
        if end > len(raw):
            raise Unreadable(f"array {name!r} is cut off")
        if dtype == "b1" and max(raw[at:end], default=0) > 1:
            raise Unreadable(f"array {name!r} has flags that are neither 0 nor 1")
        found[name] = np.frombuffer(raw, DTYPES[dtype], count, at).reshape(shape)
        at = end
    if at != len(raw):
        raise Unreadable(f"{len(raw) - at} bytes follow the last array")
    return found


def _model(fields: Fields, arrays: dict[str, Array]) -> LearnedGainModel:
    schema, name = fields.text("schema"), fields.text("name")
    if schema != SCHEMA or name not in KINDS:
        raise Unreadable(f"it is {name!r} of schema {schema!r}; known are {', '.join(KINDS)} of {SCHEMA!r}")
    arms = fields.unique_texts("arms", MOST_ARMS)
    if FLOOR not in arms:
        raise Unreadable(f"its arms lack {FLOOR!r}")
    feature_names, scaler = _features_of(fields)
    heads = fields.objects("heads", _HEAD, len(heads_of(arms)))
    if [each.text("name") for each in heads] != [str(head) for head in heads_of(arms)]:
        raise Unreadable("its heads are not those of its arms")
    if name == "trees":
        scores: LinearScores | ForestScores = _forest_of(fields.inner("scores", _FOREST), arrays, len(heads), scaler)
    else:
        scores = _linear_of(fields.inner("scores", _LINEAR), arrays, len(heads), scaler)
    past = _past_of(fields, arrays, len(feature_names), len(arms))
    if arrays:
        raise Unreadable(f"nobody knows its arrays {sorted(arrays)}")
    return LearnedGainModel(
        name=name,
        feature_names=feature_names,
        arms=arms,
        scaler=scaler,
        scores=scores,
        calibrations=tuple(_calibration_of(head) for head in heads),
        direct_weight=fields.numbers("direct_weight", len(arms), low=0.0, high=1.0),
        past=past,
        provenance=_provenance_of(fields.inner("provenance", _PROVENANCE)),
    )


def _features_as_json(model: LearnedGainModel) -> list[dict[str, object]]:
    scaler = model.scaler
    rows = zip(
        model.feature_names,
        scaler.center.tolist(),
        scaler.scale.tolist(),
        scaler.missing_share.tolist(),
        strict=True,
    )
    return [dict(zip(_FEATURE, row, strict=True)) for row in rows]


def _features_of(fields: Fields) -> tuple[tuple[str, ...], Scaler]:
    features = fields.objects("features", _FEATURE)
    names = tuple(each.text("name") for each in features)
    if len(set(names)) != len(names) or len(names) > MOST_FEATURES:
        raise Unreadable(f"it must have at most {MOST_FEATURES} different features")
    return names, Scaler(
        np.array([each.number("center") for each in features], dtype=np.float64),
        np.array([each.number("scale", low=1e-300) for each in features], dtype=np.float64),
        np.array([each.number("missing_share", low=0.0, high=1.0) for each in features], dtype=np.float64),
    )


def _scores_as_json(scores: LinearScores | ForestScores, arrays: dict[str, Array]) -> dict[str, object]:
    """Return what of the scores goes into the JSON, and put the rest into `arrays`."""
    return _linear_as_json(scores, arrays) if isinstance(scores, LinearScores) else _forest_as_json(scores, arrays)


def _linear_as_json(scores: LinearScores, arrays: dict[str, Array]) -> dict[str, object]:
    arrays["covariance"] = scores.covariance
    return {"kind": "linear", "coef": [row.tolist() for row in scores.coef]}


def _linear_of(fields: Fields, arrays: dict[str, Array], n_heads: int, scaler: Scaler) -> LinearScores:
    d = 1 + 2 * len(scaler)
    _must(fields.text("kind") == "linear", "its scores are not linear")
    coef = np.array(fields.number_rows("coef", n_heads, d))
    covariance = _floats(arrays, "covariance", (n_heads, d, d))
    _must(bool(np.all(np.diagonal(covariance, axis1=1, axis2=2) >= 0.0)), "a variance is below 0")
    return LinearScores(scaler, coef.reshape(n_heads, d), covariance)


def _forest_as_json(scores: ForestScores, arrays: dict[str, Array]) -> dict[str, object]:
    nodes = scores.nodes
    arrays |= {
        "ensemble": scores.ensemble,
        "feature": nodes.feature,
        "threshold": nodes.threshold,
        "missing_left": nodes.missing_left,
        "left": nodes.left,
        "right": nodes.right,
        "value": nodes.value,
        "roots": nodes.roots,
    }
    n_folds = scores.intercept.shape[1]
    return {
        "kind": "forest",
        "n_folds": n_folds,
        "intercept": [row.tolist() for row in scores.intercept],
        "least_error": scores.least_error.tolist(),
    }


def _forest_of(fields: Fields, arrays: dict[str, Array], n_heads: int, scaler: Scaler) -> ForestScores:
    _must(fields.text("kind") == "forest", "its scores are no forest")
    n_folds = fields.count("n_folds", MOST_FOLDS)
    _must(n_folds >= 1, "it has no folds")
    intercept = np.array(fields.number_rows("intercept", n_heads, n_folds)).reshape(n_heads, n_folds)
    value = arrays.get("value")
    n_nodes = 0 if value is None else value.size
    _must(n_nodes <= MOST_NODES, f"it has more than {MOST_NODES} nodes")
    roots = arrays.get("roots")
    n_trees = 0 if roots is None else roots.size
    own = np.arange(n_nodes, dtype=np.int32)
    left, right = (_whole(arrays, side, n_nodes, 0, n_nodes) for side in ("left", "right"))
    leaf = (left == own) & (right == own)
    # children after their parents: no path can go round
    _must(bool(np.all(leaf | ((left > own) & (right > own)))), "a tree goes back to where it came from")
    nodes = Nodes(
        feature=_whole(arrays, "feature", n_nodes, 0, max(len(scaler), 1)),
        threshold=_floats(arrays, "threshold", (n_nodes,), infinite=True),
        missing_left=_flags(arrays, "missing_left", n_nodes),
        left=left,
        right=right,
        value=_floats(arrays, "value", (n_nodes,)),
        roots=_whole(arrays, "roots", n_trees, 0, n_nodes),
    )
    _must(len(scaler) > 0 or bool(leaf.all()), "its trees compare features, and it has none")
    ensemble = _whole(arrays, "ensemble", n_trees, 0, n_heads * n_folds)
    try:
        depth = nodes.depth()
    except ValueError as error:
        raise Unreadable(str(error)) from error
    least_error = fields.numbers("least_error", n_heads, low=0.0)
    return ForestScores(nodes, ensemble, intercept, least_error, len(scaler), depth)


def _calibration_of(head: Fields) -> Calibration:
    knots = head.numbers_or_none("knots", None)
    n = 0 if knots is None else len(knots)
    chances = head.numbers_or_none("chances", n, low=0.0, high=1.0)
    _must((knots is None) == (chances is None), "a calibration has half a curve")
    if knots is not None and chances is not None:
        rising = bool(np.all(np.diff(knots) >= 0.0) and np.all(np.diff(chances) >= 0.0))
        _must(1 <= n <= MOST_KNOTS and rising, "a calibration does not rise")
    return Calibration(head.number("slope", low=0.0), head.number("offset"), knots, chances)


def _past_of(fields: Fields, arrays: dict[str, Array], n_features: int, n_arms: int) -> PastTasks:
    tasks = fields.texts("past")
    _must(len(tasks) <= MAX_PAST_TASKS, f"it keeps more than {MAX_PAST_TASKS} past tasks")
    quality = _floats(arrays, "past_quality", (len(tasks), n_arms), unknown=True)
    _must(not np.any((quality < 0.0) | (quality > 1.0)), "the quality of a past task is outside [0, 1]")
    return PastTasks(tasks, _floats(arrays, "past_rows", (len(tasks), n_features), unknown=True), quality)


def _provenance_as_json(made_from: Provenance) -> dict[str, object]:
    return {
        "n_rows": made_from.n_rows,
        "training_digest": made_from.training_digest,
        "feature_schema": made_from.feature_schema,
        "parent": made_from.parent,
        "made_with": [{"name": name, "version": version} for name, version in made_from.made_with],
        "settings": [{"name": name, "value": value} for name, value in made_from.settings],
    }


def _provenance_of(fields: Fields) -> Provenance:
    made_with, settings = (
        fields.objects("made_with", ("name", "version")),
        fields.objects("settings", ("name", "value")),
    )
    return Provenance(
        n_rows=fields.count("n_rows", 10**12),
        training_digest=fields.text("training_digest"),
        feature_schema=fields.text("feature_schema"),
        parent=fields.text_or_none("parent"),
        made_with=tuple((each.text("name"), each.text("version")) for each in made_with),
        settings=tuple((each.text("name"), each.number("value")) for each in settings),
    )


def _floats(
    arrays: dict[str, Array], name: str, shape: tuple[int, ...], *, unknown: bool = False, infinite: bool = False
) -> Floats:
    """Take an array out; `unknown` lets it hold NaN, `infinite` infinities."""
    found = _taken(arrays, name, "f8", shape)
    wrong = (np.isnan(found) & (not unknown)) | (np.isinf(found) & (not infinite))
    _must(not wrong.any(), f"array {name!r} has a number that is not finite")
    return found.astype(np.float64)


def _whole(arrays: dict[str, Array], name: str, n: int, low: int, below: int) -> npt.NDArray[np.int32]:
    found = _taken(arrays, name, "i4", (n,))
    _must(not np.any((found < low) | (found >= below)), f"array {name!r} has a number outside [{low}, {below})")
    return found.astype(np.int32)


def _flags(arrays: dict[str, Array], name: str, n: int) -> npt.NDArray[np.bool_]:
    return _taken(arrays, name, "b1", (n,)).astype(np.bool_)


def _taken(arrays: dict[str, Array], name: str, dtype: str, shape: tuple[int, ...]) -> Array:
    found = arrays.pop(name, None)
    if found is None or _dtype_of(found) != dtype or found.shape != shape:
        raise Unreadable(f"array {name!r} must be {dtype} of shape {shape}")
    return found


def _dtype_of(array: Array) -> str:
    return f"{array.dtype.kind}{array.dtype.itemsize}"


def _must(holds: bool, problem: str) -> None:
    if not holds:
        raise Unreadable(problem)
