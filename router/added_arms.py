"""Arms that are not built in: whatever answers a task by means of its own, such as a search for a program.

Installed packages name them by entry points of the group `ttt_router.arms`, `name = "package.module:make"`, where
`make(settings)` returns an `AddedArm`; `Router(arms={name: arm})` takes one that is there already. They are chosen,
paid for and learned of like any other, and whatever goes wrong in one ends in the answer in context.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from icl_engine.answer import MAX_CANDIDATES, Answer
from icl_engine.errors import FewShotError, TaskRefused
from icl_engine.task import Limits, Task
from icl_engine.values import checked_value
from policies.decision import REMOTE, Arm

if TYPE_CHECKING:
    from router.settings import Settings

GROUP = "ttt_router.arms"
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,39}$"  # of an arm


class AddedArm(Protocol):
    """A way to answer tasks. It may be called from several threads at once."""

    @property
    def expected_s(self) -> float:
        """Seconds that a query takes, above zero: what is counted with until it has been measured."""
        ...

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of task that it can answer, `grid` or `text`; others are never offered to it."""
        ...

    def answer(self, task: Task, *, deadline: float | None) -> Sequence[Answer]:
        """Answer each query of the task (`Answer.of`), with no candidates where it finds nothing.

        Whatever it raises is told in `degraded`, and the task is answered in context; raise `FewShotError` with a
        sentence for who reads that.

        Args:
            deadline: on the clock of `time.monotonic`. Nobody interrupts it: it has to keep to it by itself.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds; nothing is asked of it any more."""
        ...


class ArmFailed(FewShotError):
    """What an added arm gave is no answer; `solve` answers in context instead."""

    def __init__(self, arm: str, problem: str, *, task_id: str | None = None) -> None:
        super().__init__(f"the arm {arm} {problem}.", task_id=task_id)
        self.arm = arm


class AddedArms:
    """The added arms of a router, each made when it is first wanted. Threads may share it.

    Args:
        settings: handed to whoever makes an arm, and say which server the arm `remote` asks.
        given: arms that are there already; who handed them in closes them.

    Raises:
        SettingsError: one that is given has no name for an arm, or that of a built-in one.
    """

    def __init__(self, settings: Settings, given: Mapping[str, AddedArm] | None = None) -> None:
        self._settings = settings
        self._given = dict(given or {})
        self._made: dict[str, AddedArm] = {}
        self._lock = threading.RLock()
        for name, arm in self._given.items():
            _check_name(name)
            _check_arm(arm, variable=f"arm {name}", remedy=f"See to `expected_s` and `kinds` of {type(arm).__name__}.")

    def find(self, name: str) -> AddedArm | None:
        """Return the arm of that name; None where there is none, such as for one that is built in.

        Raises:
            SettingsError: its package is broken, or two packages name it.
        """
        with self._lock:
            if name in self._given:
                return self._given[name]
            if name not in self._made:
                made = self._make(name)
                if made is None:
                    return None
                self._made[name] = made
            return self._made[name]

    def all_of(self, names: Sequence[str]) -> dict[str, AddedArm]:
        """Return those of the names that are added arms, and `remote` wherever its server is set.

        Raises:
            SettingsError: see `find`.
        """
        found = {name: self.find(name) for name in dict.fromkeys((*names, *self._given, REMOTE))}
        return {name: arm for name, arm in found.items() if arm is not None}

    def close(self) -> None:
        """Close those that were made here."""
        with self._lock:
            for arm in self._made.values():
                with contextlib.suppress(Exception):  # of anybody's code, and nothing is wanted of it any more
                    arm.close()
            self._made.clear()

    def _make(self, name: str) -> AddedArm | None:
        if name == REMOTE:
            return _remote(self._settings)
        return None if name in tuple(Arm) else _installed_arm(name, self._settings)


def installed(name: str) -> bool:
    """Say whether an installed package has an arm of that name."""
    return bool(_entry_points(name))


def checked_answers(arm: str, given: object, task: Task, limits: Limits) -> tuple[Answer, ...]:
    """Return what an added arm gave, grids as tuples.

    Raises:
        ArmFailed: it is not an answer for each query, or a value is not of the task's kind or beyond the limits.
    """
    if not isinstance(given, Sequence) or not all(isinstance(each, Answer) for each in given):
        raise ArmFailed(arm, "gave something other than answers", task_id=task.id)
    if len(given) != len(task.queries):
        raise ArmFailed(arm, f"gave {len(given)} answers to {len(task.queries)} queries", task_id=task.id)
    return tuple(_checked_answer(arm, each, task, limits) for each in given)


def _checked_answer(arm: str, answer: Answer, task: Task, limits: Limits) -> Answer:
    confidence: object = answer.confidence  # anybody's code made it
    tokens: object = answer.tokens
    if not isinstance(confidence, int | float) or not 0.0 <= confidence <= 1.0:  # nor is it "not a number"
        raise ArmFailed(arm, f"gave a confidence of {confidence!r}, which is not in 0 to 1", task_id=task.id)
    if not isinstance(tokens, int) or tokens < 0:
        raise ArmFailed(arm, f"counted {tokens!r} tokens", task_id=task.id)
    candidates = []
    for candidate in answer.candidates[:MAX_CANDIDATES]:
        try:
            value = checked_value(candidate.value, "answer", limits)
        except TaskRefused as error:
            raise ArmFailed(arm, f"gave no value ({error.message})", task_id=task.id) from None
        if isinstance(value, str) != (task.kind == "text"):
            raise ArmFailed(arm, f"answered a task of kind {task.kind} with another kind", task_id=task.id)
        candidates.append(replace(candidate, value=value))
    return replace(answer, candidates=tuple(candidates))


def _remote(settings: Settings) -> AddedArm | None:
    if settings.remote_url is None or settings.remote_model is None:
        return None
    from icl_engine.remote_model import RemoteModel

    return RemoteModel(
        settings.remote_url,
        settings.remote_model,
        api_key=settings.remote_api_key,
        timeout_s=settings.remote_timeout_s,
    )


def _installed_arm(name: str, settings: Settings) -> AddedArm | None:
    from router.settings import SettingsError

    found = _entry_points(name)
    if not found:
        return None
    variable = f"arm {name}"
    packages = sorted({_package_of(each) for each in found})
    if len(packages) > 1:
        raise SettingsError(f"named by {' and by '.join(packages)}", variable=variable, remedy="Uninstall one of them.")
    remedy = f"See to the package {packages[0]}, or take the arm out of TTT_ROUTER_ARMS."
    try:
        arm: AddedArm = found[0].load()(settings)
    except FewShotError:
        raise
    except Exception as error:  # of anybody's code
        said = f"cannot be made ({type(error).__name__}: {error})"
        raise SettingsError(said, variable=variable, remedy=remedy) from error
    _check_arm(arm, variable=variable, remedy=remedy)
    return arm


def _entry_points(name: str) -> list[importlib.metadata.EntryPoint]:
    return list(importlib.metadata.entry_points(group=GROUP, name=name)) if re.match(NAME_PATTERN, name) else []


def _package_of(found: importlib.metadata.EntryPoint) -> str:
    return found.value if found.dist is None else f"{found.dist.name} {found.dist.version}"


def _check_name(name: str) -> None:
    from router.settings import SettingsError

    if name in tuple(Arm) or not re.match(NAME_PATTERN, name):
        remedy = "Give another name, of small letters, digits and underscores."
        raise SettingsError(f"{name!r} cannot name an added arm", variable="arms", remedy=remedy)


def _check_arm(arm: AddedArm, *, variable: str, remedy: str) -> None:
    from router.settings import SettingsError

    try:
        expected_s, kinds = float(arm.expected_s), tuple(arm.kinds)
        usable = math.isfinite(expected_s) and expected_s > 0.0 and len(kinds) > 0 and {*kinds} <= {"grid", "text"}
        said = f"expects {expected_s} seconds a query and answers {kinds}"
    except Exception as error:  # of anybody's code
        usable, said = False, f"is no added arm ({type(error).__name__}: {error})"
    if not usable:
        raise SettingsError(said, variable=variable, remedy=remedy)
