"""Whatever the settings hold that is secret, and whoever tells of it, it is in nothing that is kept, handed on or said.

The task and its answers are the user's own: they are kept as they are.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from icl_engine.scripted_model import ScriptedModel
from icl_engine.task import Task
from policies.decision import Decision
from policies.feature_values import FeatureValues
from policies.fixed import AlwaysArm
from policies.stages import Stage
from router.cli import main
from router.errors import FewShotError, SettingsError
from router.parts import store_of
from router.router import Router
from router.settings import Settings
from router.solution import Solution
from tests.models import TASKS, taught_model, tiny_model
from tests.openai_server import openai_server
from tests.redis_server import RedisServer, redis_server
from ttt_engine.stores import MemoryAdapterStore

TASK = Task.from_pairs([("a", "A"), ("b", "B"), ("c", "C")], "d")
GRIDS = Task.from_pairs([([1, 0], [0, 1]), ([2, 0], [0, 2]), ([3, 0], [0, 3])], [4, 0])
PLANTED = {  # setting -> the secret in it; an @ and a / have to be quoted in a URL
    "store_secrets": "signs@adapters/h1",
    "remote_api_key": "asks@the/model-h2",
    "serve_keys": "opens@the/door-h3-and-is-long-enough",
    "store_url": "enters@redis/h4",
    "ledger_url": "enters@postgres/h5",
    "remote_url": "enters@server/h6",
}
WHERE = ("stages", "decide", "reason", "escalates", "spent", "weigh", "check_every")


def planted(home: Path, **more: object) -> Settings:
    """Settings with a secret wherever one can be; the ledger is a file, whose URL takes a password and needs none."""
    inside = {name: quote(secret, safe="") for name, secret in PLANTED.items()}
    values: dict[str, object] = {
        "arms": ("icl", "ttt", "remote"),
        "store_url": f"redis://me:{inside['store_url']}@127.0.0.1:1/0?password={inside['store_url']}",
        "store_secrets": PLANTED["store_secrets"],
        "remote_url": f"http://me:{inside['remote_url']}@127.0.0.1:1/v1",
        "remote_model": "large",
        "remote_api_key": PLANTED["remote_api_key"],
        "serve_keys": f"lab={PLANTED['serve_keys']}",
        "ttt_steps": 1,
        "n_views": 1,
    }
    return Settings(home=home, **{**values, **more})  # type: ignore[arg-type]


def told(settings: Settings) -> str:
    """What a careless program might say: every secret as it is, in its URL, and in quotes."""
    names = [name for name in PLANTED if getattr(settings, name) is not None]
    each = [
        f"{getattr(settings, name)} {PLANTED[name]} {PLANTED[name]!r} {json.dumps(PLANTED[name])}" for name in names
    ]
    return " | ".join(each)


class TellingPolicy:
    """Answers in context, and tells in one place what it should not."""

    name, version = "telling", "1"

    def __init__(self, where: str, said: str) -> None:
        self.where, self.said, self.n_told = where, said, 0

    def propensities(self, features: FeatureValues, arms: Sequence[str]) -> tuple[float, ...]:
        return AlwaysArm("icl").propensities(features, arms)

    def decide(self, features: FeatureValues, rng: np.random.Generator, arms: Sequence[str]) -> Decision:
        self._tell("decide")
        self.n_told += self.where == "reason"
        reason = self.said if self.where == "reason" else "as ever"
        return Decision("icl", 1.0, tuple((arm, float(arm == "icl")) for arm in arms), reason, "telling@1", 0.5)

    def stages_wanted(self, features: FeatureValues) -> Stage | None:
        self._tell("stages")
        return None

    def escalates(self, features: FeatureValues, arm: str, confidence: float) -> bool:
        self._tell("escalates")
        return False

    @property
    def check_every(self) -> int | None:
        self._tell("check_every")
        return None

    def spent(self, arm: str, seconds: float) -> None:
        self._tell("spent")

    def weigh(self, features: FeatureValues, arms: Sequence[str]) -> object:
        self._tell("weigh")
        raise NotImplementedError

    def contributions(self, features: FeatureValues, arm: str) -> tuple[object, ...]:
        return ()

    def _tell(self, where: str) -> None:
        if self.where == where:
            self.n_told += 1
            raise RuntimeError(self.said)


class TellingStore(MemoryAdapterStore):
    """A store that fails, and tells where it was."""

    def __init__(self, said: str) -> None:
        super().__init__()
        self.said, self.n_told = said, 0

    def get(self, key: str) -> None:
        self.n_told += 1
        raise RuntimeError(self.said)

    def __contains__(self, key: str) -> bool:
        raise RuntimeError(self.said)


@pytest.fixture(autouse=True)
def _no_settings_of_others(folder: Path) -> None:
    """Nothing but what a test sets."""


def kept_and_said(router: Router, solutions: Sequence[Solution], capsys: pytest.CaptureFixture[str]) -> str:
    """Return all there is of some solves: what they gave, the ledger row by row and byte by byte, each export."""
    settings = router.settings
    said = [repr(settings), *map(settings.shown, Settings.model_fields), *router.faults]
    for solution in solutions:
        said += [repr(solution), str(solution), router.explain(solution.trace_id)]
    router.close()
    capsys.readouterr()
    home = ["--home", str(settings.home)]
    commands = (["ledger", "export"], ["traces", "export"], ["traces", "show", "last", "--json"], ["traces", "why"])
    for command in (*commands, ["traces", "list", "--json"]):
        assert main([*command, *home]) == 0
        captured = capsys.readouterr()
        said += [captured.out, captured.err]
    said += [file.read_bytes().decode("utf-8", "replace") for file in settings.home.rglob("*") if file.is_file()]
    return "\n".join(said)


def found_in(text: str) -> set[str]:
    """Return the settings whose secret is in a text, in whatever form."""
    forms = {
        name: {secret, quote(secret), quote(secret, safe=""), repr(secret)[1:-1], json.dumps(json.dumps(secret))}
        for name, secret in PLANTED.items()
    }
    return {name for name, all_forms in forms.items() if any(form in text for form in all_forms)}


def test_every_setting_that_is_not_printed_is_planted_here() -> None:
    hidden = {name for name, field in Settings.model_fields.items() if not field.repr}

    assert hidden == set(PLANTED)


@pytest.mark.parametrize("where", WHERE)
def test_what_a_policy_tells_is_in_nothing_that_is_kept_or_said(
    tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = planted(tmp_path / "home")
    policy = TellingPolicy(where, told(settings))
    assert found_in(policy.said) == set(PLANTED) - {"ledger_url"}

    trains = where in ("check_every", "escalates")  # asked only where there is training
    model, task = (taught_model(), TASKS[0]) if trains else (ScriptedModel(lambda task: task.query), TASK)
    router = Router(settings, model=model, policy=policy, store=MemoryAdapterStore())
    solutions = [router.solve(task), router.solve(task)]  # what was not kept of the first is said with the second
    reason = router.decide(task).reason
    router.flush()  # what weighed is written behind the answer

    assert policy.n_told
    assert found_in(f"{kept_and_said(router, solutions, capsys)}{reason}") == set()


def test_what_a_store_tells_is_in_nothing_that_is_kept_or_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = planted(tmp_path / "home")
    store = TellingStore(told(settings))
    router = Router(settings, model=tiny_model(), store=store)
    solution = router.solve(GRIDS, arm="ttt")

    assert store.n_told
    assert any("RuntimeError" in each for each in solution.degraded)
    assert found_in(kept_and_said(router, [solution], capsys)) == set()


def test_what_the_stores_and_servers_of_the_settings_tell_is_in_nothing_that_is_kept_or_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Redis that is away, and a model's server that repeats the key it was given."""
    with openai_server(str, key="another") as server:
        url = server.url.replace("://", f"://me:{quote(PLANTED['remote_url'], safe='')}@")
        router = Router(planted(tmp_path / "home", remote_url=url), model=tiny_model())
        solutions = [router.solve(TASK, arm="remote"), router.solve(GRIDS, arm="ttt")]

    assert any("the remote model did not answer" in each for each in solutions[0].degraded)
    assert any("Redis" in each for each in solutions[1].degraded)
    assert found_in(kept_and_said(router, solutions, capsys)) == set()


def test_what_is_in_the_task_is_kept_so_that_it_would_be_found_elsewhere_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = planted(tmp_path / "home")
    router = Router(settings, model=ScriptedModel(lambda task: task.query))
    solutions = [router.solve(Task.from_pairs([("a", "A"), ("b", "B")], secret)) for secret in PLANTED.values()]

    assert found_in(kept_and_said(router, solutions, capsys)) == set(PLANTED)


# Errors


def error_of(call: Callable[[], object]) -> str:
    """Return all that an error shows, its causes included."""
    with pytest.raises(FewShotError) as raised:
        call()
    return "".join(traceback.format_exception(raised.value))


@pytest.fixture(scope="module")
def refusing_redis() -> Iterator[RedisServer]:
    with redis_server(requirepass="another") as server:
        yield server


STORE = quote(PLANTED["store_url"], safe="")


@pytest.mark.parametrize(
    "url",
    [
        f"redis://me:{STORE}@127.0.0.1:1/0",
        f"redis://:{STORE}@127.0.0.1:1/0?cluster=true",
        f"redis://127.0.0.1:1/0?password={STORE}",
        f"redis://me:{STORE}@127.0.0.1:no-port/0",
        f"redis://me:{PLANTED['store_url']}@127.0.0.1:1/0",  # not quoted
        f"rediss://me:{STORE}@127.0.0.1:1/0",
        f"cloud://me:{STORE}@host",
    ],
)
def test_no_error_of_the_store_tells_the_password_in_its_url(tmp_path: Path, url: str) -> None:
    def check() -> None:
        with_store = store_of(planted(tmp_path, store_url=url))
        with_store.check()

    assert found_in(error_of(check)) == set()


def test_a_server_that_refuses_the_password_is_an_error_that_does_not_tell_it(
    tmp_path: Path, refusing_redis: RedisServer
) -> None:
    url = refusing_redis.tcp_url.replace("://", f"://:{STORE}@")
    settings = planted(tmp_path, store_url=url)

    assert found_in(url) == {"store_url"}
    assert found_in(error_of(lambda: Router(settings, model=tiny_model()).solve(GRIDS))) == set()


@pytest.mark.parametrize("name", PLANTED)
def test_a_setting_that_cannot_be_is_named_and_not_repeated(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TTT_ROUTER_{name.upper()}", f"\n{PLANTED[name]}=\n@://")
    settings = {"home": tmp_path}
    if name in ("store_secrets", "remote_api_key"):  # anything will do for them, so something else is wrong
        settings["epsilon"] = 2.0  # type: ignore[assignment]

    try:
        made = Settings(**settings)  # type: ignore[arg-type]
        with Router(made, model=ScriptedModel(str)) as router:
            solution = router.solve(TASK)
        said = "".join(solution.degraded)
    except SettingsError as error:
        said = "".join(traceback.format_exception(error))

    assert found_in(said) == set()
