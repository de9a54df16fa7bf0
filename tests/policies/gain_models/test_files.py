"""A model comes back from its bytes to the bit, or not at all."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import PolicyFileDamaged
from policies.gain_models import as_bytes, model_of
from policies.gain_models.files import MAGIC
from policies.ledger import Ledger
from tests.policies.gain_models.matrices import drawn
from tests.policies.gain_models.priors import fitted

DRAWN = drawn(1_200, missing=0.05)
MODELS = {kind: fitted(kind, DRAWN.matrix, parent="b" * 64) for kind in ("prior", "logistic", "trees")}
CONTENTS = {kind: as_bytes(model) for kind, model in MODELS.items()}
ROOT = Path(__file__).resolve().parents[3]


def resealed(content: bytes, change: Callable[[dict[str, object], bytearray], None]) -> bytes:
    """Return a file with other content and a digest that fits: what someone could have made on purpose."""
    body = content[len(MAGIC) + 32 :]
    length = int.from_bytes(body[:8], "little")
    found, arrays = json.loads(body[8 : 8 + length]), bytearray(body[8 + length :])
    change(found, arrays)
    text = json.dumps(found).encode()
    made = len(text).to_bytes(8, "little") + text + arrays
    return MAGIC + hashlib.sha256(made).digest() + made


@pytest.mark.parametrize("kind", MODELS)
def test_it_predicts_the_same_to_the_bit(kind: str) -> None:
    model, back = MODELS[kind], model_of(CONTENTS[kind])
    rows = DRAWN.matrix.features[:, : len(model.feature_names)]

    for ours, theirs in zip(
        (model.estimate(rows), model.estimate(rows[:1])), (back.estimate(rows), back.estimate(rows[:1])), strict=True
    ):
        np.testing.assert_array_equal(theirs.p_correct, ours.p_correct)
        np.testing.assert_array_equal(theirs.gain, ours.gain)
        np.testing.assert_array_equal(theirs.gain_std, ours.gain_std)
    assert back.explain(rows[3], "ttt") == model.explain(rows[3], "ttt")
    assert back.nearest(rows[3]) == model.nearest(rows[3])
    assert back.provenance == model.provenance
    assert as_bytes(back) == CONTENTS[kind]


@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=60, deadline=None)
@given(share=st.floats(0.0, 1.0, exclude_max=True), bit=st.integers(0, 7))
def test_any_bit_that_flips_is_noticed(kind: str, share: float, bit: int) -> None:
    damaged = bytearray(CONTENTS[kind])
    damaged[int(share * len(damaged))] ^= 1 << bit

    with pytest.raises(PolicyFileDamaged):
        model_of(bytes(damaged))


@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=30, deadline=None)
@given(share=st.floats(0.0, 1.0, exclude_max=True))
def test_a_file_that_is_cut_off_is_noticed(kind: str, share: float) -> None:
    with pytest.raises(PolicyFileDamaged):
        model_of(CONTENTS[kind][: int(share * len(CONTENTS[kind]))])


@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04" + bytes(200), MAGIC + bytes(100)])
def test_a_foreign_file_is_refused(content: bytes) -> None:
    with pytest.raises(PolicyFileDamaged):
        model_of(content)


def test_features_that_mean_something_else_are_refused() -> None:
    content = as_bytes(fitted("logistic", drawn(50).matrix, feature_schema="old"))

    assert model_of(content, feature_schema="old").provenance.feature_schema == "old"
    with pytest.raises(PolicyFileDamaged, match="schema 'old'"):
        model_of(content, feature_schema="new")


def _unchanged(found: dict[str, object], arrays: bytearray) -> None:
    pass


def test_resealing_alone_changes_nothing() -> None:
    assert as_bytes(model_of(resealed(CONTENTS["trees"], _unchanged))) == CONTENTS["trees"]


def array_at(found: dict[str, object], name: str) -> int:
    """Return where an array starts among the raw bytes."""
    at = 0
    listed = found["arrays"]
    assert isinstance(listed, list)
    for each in listed:
        if each["name"] == name:
            return at
        at += int(np.prod(each["shape"])) * {"f8": 8, "i4": 4, "b1": 1}[each["dtype"]]
    raise KeyError(name)


def _set(name: str, value: bytes) -> Callable[[dict[str, object], bytearray], None]:
    def change(found: dict[str, object], arrays: bytearray) -> None:
        at = array_at(found, name)
        arrays[at : at + len(value)] = value

    return change


def _field(path: tuple[str | int, ...], value: object) -> Callable[[dict[str, object], bytearray], None]:
    def change(found: dict[str, object], arrays: bytearray) -> None:
        inner: object = found
        for step in path[:-1]:
            inner = inner[step]  # type: ignore[index]
        inner[path[-1]] = value  # type: ignore[index]

    return change


def _trailing(found: dict[str, object], arrays: bytearray) -> None:
    arrays.extend(b"\0")


NAN = np.float64(np.nan).tobytes()


def i4(number: int) -> bytes:
    return number.to_bytes(4, "little", signed=True)


@pytest.mark.parametrize(
    ("kind", "change", "named"),
    [
        ("trees", _set("left", i4(0)), "goes back"),
        ("trees", _set("right", i4(10**6)), "right"),
        ("trees", _set("feature", i4(-1)), "feature"),
        ("trees", _set("feature", i4(6)), "feature"),
        ("trees", _set("roots", i4(-5)), "roots"),
        ("trees", _set("ensemble", i4(10_000)), "ensemble"),
        ("trees", _set("value", NAN), "value"),
        ("trees", _set("missing_left", b"\x02"), "flags"),
        ("logistic", _set("covariance", NAN), "covariance"),
        ("logistic", _set("covariance", np.float64(-1.0).tobytes()), "variance"),
        ("logistic", _set("past_quality", np.float64(1.5).tobytes()), "past"),
        ("logistic", _trailing, "follow"),
        ("logistic", _field(("name",), "trees"), "scores"),
        ("logistic", _field(("name",), "oracle"), "oracle"),
        ("logistic", _field(("schema",), "gain model 2"), "schema"),
        ("logistic", _field(("arms",), ["zero_shot", "icl_vote", "ttt"]), "icl"),
        ("logistic", _field(("arms",), ["icl", "ttt"]), "heads"),
        ("logistic", _field(("features", 0, "scale"), 0.0), "scale"),
        ("logistic", _field(("features", 0, "name"), "answer_confidence"), "different features"),
        ("logistic", _field(("direct_weight", 1), 1.5), "direct_weight"),
        ("logistic", _field(("heads", 0, "slope"), -1.0), "slope"),
        ("logistic", _field(("heads", 0, "knots"), [1.0, 0.0]), "chances"),
        ("logistic", _field(("scores", "coef", 0), [1.0]), "coef"),
        ("logistic", _field(("scores", "coef", 0, 0), 1e999), "Infinity"),
        ("logistic", _field(("scores", "coef", 0, 0), True), "coef"),
        ("logistic", _field(("arrays", 0, "shape"), [10**9, 10**9, 10**9]), "shape"),
        ("logistic", _field(("arrays", 0, "dtype"), "O"), "type"),
        ("logistic", _field(("provenance", "n_rows"), -1), "n_rows"),
        ("logistic", _field(("extra",), 1), "extra"),
    ],
)
def test_content_that_no_model_has_is_refused_by_name(
    kind: str, change: Callable[[dict[str, object], bytearray], None], named: str
) -> None:
    with pytest.raises(PolicyFileDamaged, match=named):
        model_of(resealed(CONTENTS[kind], change))


def test_trees_whose_paths_meet_again_and_again_are_read_in_no_time() -> None:
    """Two ways from each node to the next make 2^60 paths; none is walked twice."""
    n = 60

    def change(found: dict[str, object], arrays: bytearray) -> None:
        at = {name: array_at(found, name) for name in ("left", "right", "roots")}
        for i in range(n):
            for side in ("left", "right"):
                arrays[at[side] + 4 * i : at[side] + 4 * i + 4] = i4(i + 1)
        for side in ("left", "right"):
            arrays[at[side] + 4 * n : at[side] + 4 * n + 4] = i4(n)
        arrays[at["roots"] : at["roots"] + 4] = i4(0)

    assert model_of(resealed(CONTENTS["trees"], change)).name == "trees"


def test_it_can_be_published_and_loaded_again(tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite", files=tmp_path / "policies") as ledger:
        version = ledger.policy_versions.publish(CONTENTS["logistic"])

        back = model_of(ledger.policy_versions.load(version.version_id))

    assert as_bytes(back) == CONTENTS["logistic"]
    assert version.version_id == hashlib.sha256(CONTENTS["logistic"]).hexdigest()


def test_reading_and_using_a_model_loads_no_learner(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(CONTENTS["trees"])
    script = (
        "import sys, pathlib, numpy\n"
        "from policies.gain_models import model_of\n"
        "model = model_of(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "model.estimate(numpy.zeros((1, 6))), model.explain(numpy.zeros(6), 'ttt'), model.nearest(numpy.zeros(6))\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'sklearn', 'scipy', 'torch', 'sqlalchemy'}))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "model")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.strip() == ""
