"""Arms that are not built in: whatever answers a task by means of its own, such as a search for a program.

Installed packages offer them by entry points of the group `ttt_router.arms`, `name = "package.module:make"`, where
`make(settings)` returns an `AddedArm`; only those that `TTT_ROUTER_ARMS` names are made. `Router(arms={name: arm})`
takes one that is there already. They are chosen, paid for and learned of like any other, and whatever goes wrong in
answering ends in the answer in context.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from icl_engine.answer import MAX_CANDIDATES, Answer
from icl_engine.errors import FewShotError, TaskRefused
from icl_engine.task import Limits, Task
from icl_engine.values import checked_value
from policies.decision import REMOTE, Arm
from router.settings import Settings, SettingsError

GROUP = "ttt_router.arms"
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")  # of an arm
_KINDS = {"grid", "text"}


class AddedArm(Protocol):
    """A way to answer tasks. Called from several threads at once, and for all tenants."""

    @property
    def expected_s(self) -> float:
        """Seconds that a query takes, above zero: what is counted with until it has been measured."""
        ...

    @property
    def kinds(self) -> Iterable[str]:
        """The kinds of task that it can answer, `grid` or `text`; others are never offered to it."""
        ...

    def answer(self, task: Task, *, deadline: float | None) -> Sequence[Answer]:
        """Answer each query of the task (`Answer.of`), with no value where it finds none.

        A query without a value is answered in context, as the whole task is where this raises anything, which is told
        in `degraded` (a `FewShotError` by its sentence alone). Both count as wrong, for the arm.

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


@dataclass(frozen=True, slots=True)
class CheckedArm:
    """An added arm, with what it says of itself read once."""

    name: str
    arm: AddedArm
    expected_s: float
    kinds: frozenset[str]

    @classmethod
    def of(cls, name: str, arm: AddedArm, *, remedy: str) -> CheckedArm:
        """Read what an arm says of itself.

        Raises:
            SettingsError: that will not do.
        """
        try:
            expected_s, kinds = float(arm.expected_s), frozenset(arm.kinds)
            said = f"expects {expected_s} seconds a query and answers {', '.join(sorted(kinds)) or 'nothing'}"
            usable = math.isfinite(expected_s) and expected_s > 0.0 and bool(kinds) and kinds <= _KINDS
        except Exception as error:  # of anybody's code
            raise SettingsError(f"is none ({type(error).__name__})", variable=f"arm {name}", remedy=remedy) from error
        if not usable:
            raise SettingsError(said, variable=f"arm {name}", remedy=remedy)
        return cls(name, arm, expected_s, kinds)

    def answer(self, task: Task, *, deadline: float | None, limits: Limits) -> tuple[Answer, ...]:
        """Return its answers, as far as they are some.

        Raises:
            ArmFailed: there is not one for each query, or it is of another kind or beyond the limits.
        """
        given: object = self.arm.answer(task, deadline=deadline)
        if not isinstance(given, Sequence) or not all(isinstance(each, Answer) for each in given):
            raise ArmFailed(self.name, "gave something other than answers", task_id=task.id)
        if len(given) != len(task.queries):
            raise ArmFailed(self.name, f"gave {len(given)} answers to {len(task.queries)} queries", task_id=task.id)
        return tuple(self._checked(each, task, limits) for each in given)

    def _checked(self, answer: Answer, task: Task, limits: Limits) -> Answer:
        values = []
        for candidate in answer.candidates[:MAX_CANDIDATES]:
            try:
                value = checked_value(candidate.value, "answer", limits)
            except TaskRefused as error:
                raise ArmFailed(self.name, f"gave no value ({error.message})", task_id=task.id) from None
            if isinstance(value, str) != (task.kind == "text"):
                raise ArmFailed(self.name, f"gave another kind of value than {task.kind}", task_id=task.id)
            values.append(value)
        try:
            confidence, tokens = float(answer.confidence), operator.index(answer.tokens)
        except (TypeError, ValueError):
            raise ArmFailed(self.name, "gave a confidence or tokens that are no numbers", task_id=task.id) from None
        if not 0.0 <= confidence <= 1.0 or tokens < 0:
            said = f"gave a confidence of {confidence} (0 to 1) and {tokens} tokens (0 or more)"
            raise ArmFailed(self.name, said, task_id=task.id)
        return Answer.of(*values, confidence=confidence, tokens=tokens)


def handed_in(arms: Mapping[str, AddedArm | CheckedArm]) -> dict[str, CheckedArm]:
    """Return arms that are there already, of which some may have been read before.

    Raises:
        SettingsError: one has no name for an arm or that of another, or says of itself what will not do.
    """
    for name in arms:
        if name in (*Arm, REMOTE) or not NAME.fullmatch(name):
            remedy = "Give another name, of small letters, digits and underscores."
            raise SettingsError(f"{name!r} cannot name an added arm", variable="arms", remedy=remedy)
    remedy = "See to its `expected_s` and `kinds`."
    return {
        name: arm if isinstance(arm, CheckedArm) else CheckedArm.of(name, arm, remedy=remedy)
        for name, arm in arms.items()
    }


def make_arms(names: Iterable[str], settings: Settings, redact: Callable[[str], str]) -> dict[str, CheckedArm]:
    """Make those of the names that are added arms; `remote` where its server is set. Who calls this closes them.

    Raises:
        SettingsError: no installed package has one, or two have, or it cannot be made.
        ModelUnavailable: the client library of `remote` is missing.
    """
    made: dict[str, CheckedArm] = {}
    try:
        for name in names:
            if name == REMOTE and settings.remote_url is not None and settings.remote_model is not None:
                made[name] = _remote(settings)
            elif name not in (*Arm, REMOTE):
                made[name] = _installed_arm(name, settings, redact)
    except BaseException:
        close_arms(made.values())
        raise
    return made


def close_arms(arms: Iterable[CheckedArm]) -> None:
    """Close arms; nothing is wanted of them any more, so whatever they raise is let be."""
    for each in arms:
        with contextlib.suppress(Exception):
            each.arm.close()


def installed(name: str) -> bool:
    """Say whether an installed package has an arm of that name."""
    return bool(_entry_points(name))


def _remote(settings: Settings) -> CheckedArm:
    from icl_engine.remote_model import RemoteModel

    model = RemoteModel(
        settings.remote_url or "",
        settings.remote_model or "",
        api_key=settings.remote_api_key,
        timeout_s=settings.remote_timeout_s,
    )
    return CheckedArm.of(REMOTE, model, remedy="")


def _installed_arm(name: str, settings: Settings, redact: Callable[[str], str]) -> CheckedArm:
    found, variable = _entry_points(name), f"arm {name}"
    packages = sorted({_package_of(each) for each in found})
    if not packages:
        remedy = f"Install it here, or take {name} out of TTT_ROUTER_ARMS."
        raise SettingsError("no installed package has it", variable=variable, remedy=remedy)
    if len(packages) > 1:
        raise SettingsError(f"{' and '.join(packages)} have it", variable=variable, remedy="Uninstall one of them.")
    remedy = f"See to the package {packages[0]}, or take {name} out of TTT_ROUTER_ARMS."
    try:
        arm: Any = found[0].load()(settings)
    except Exception as error:  # of anybody's code, which has seen the settings
        said = redact(f"cannot be made ({type(error).__name__}: {error})")
        raise SettingsError(said, variable=variable, remedy=remedy) from error
    try:
        return CheckedArm.of(name, arm, remedy=remedy)
    except SettingsError:
        with contextlib.suppress(Exception):
            arm.close()
        raise


def _entry_points(name: str) -> list[importlib.metadata.EntryPoint]:
    return list(importlib.metadata.entry_points(group=GROUP, name=name)) if NAME.fullmatch(name) else []


def _package_of(found: importlib.metadata.EntryPoint) -> str:
    return found.value if found.dist is None else f"{found.dist.name} {found.dist.version}"
