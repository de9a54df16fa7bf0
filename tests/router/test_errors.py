"""The tree of errors is whole, drawn, and mapped to exit codes."""

from __future__ import annotations

import pytest

import icl_engine.errors
import policies.errors
import router.errors
import ttt_engine.errors
from icl_engine.errors import FewShotError
from router.errors import exit_code


def leaves(module: object) -> list[type[FewShotError]]:
    found = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, FewShotError)]
    return sorted(found, key=lambda kind: kind.__name__)


def made(kind: type[FewShotError]) -> FewShotError:
    return kind.__new__(kind)


@pytest.mark.parametrize("module", [icl_engine.errors, policies.errors, ttt_engine.errors])
def test_every_error_is_exported_and_drawn(module: object) -> None:
    for kind in leaves(module):
        assert getattr(router.errors, kind.__name__) is kind
        assert kind.__name__ in router.errors.__all__
        assert f" {kind.__name__} " in str(router.errors.__doc__) or kind is FewShotError


def test_the_exit_codes_are_those_that_the_drawing_shows() -> None:
    drawn = [line for line in str(router.errors.__doc__).splitlines() if line.endswith(")") and "── " in line]

    for line in drawn:
        name, code = line.split("── ")[1].split()[0], int(line[-2])
        if name != "CheckpointMismatch":  # comes with torch
            assert exit_code(made(getattr(router.errors, name))) == code
    assert len(drawn) >= 10


def test_an_error_below_another_has_its_exit_code() -> None:
    assert exit_code(made(router.errors.ContextOverflow)) == 3
    assert exit_code(FewShotError("anything else")) == 1
