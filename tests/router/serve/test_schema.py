"""The OpenAPI document holds: whatever it lets one send, and much that it does not, is answered as it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import run_state_machine_as_test
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from icl_engine.loaders import load_tasks
from icl_engine.task import Task, Value
from tests.icl_engine.task_strategies import grid_tasks, text_tasks
from tests.router.serve.serving import LAB, Running, serving, shouting, text
from tests.router.serve.test_routes import ROUTES

FAST = settings(
    max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
HEADERS = {"Authorization": f"Bearer {LAB}"}
BEYOND_A_SCHEMA: list[Any] = [
    positive_data_acceptance
]  # rows of one length, values of one kind: such a task is refused with 422
ROOT = Path(__file__).parents[3]
TASK_FILES = [ROOT / "examples" / "my_task.json", *sorted((ROOT / "router" / "demo_data").glob("*.json"))]
ASKED = [
    (method, path, mode)
    for method, path in ROUTES
    for mode in GenerationMode
    if path.startswith("/v1/")
    and (path, mode) != ("/v1/policy", GenerationMode.NEGATIVE)  # it takes nothing that could be malformed
]


def _answered(task: Task) -> Value:
    return shouting(task) if isinstance(task.query, str) else task.query


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose script answers everything."""
    given: dict[str, Any] = {"serve_rate": 100_000.0, "serve_queue": 1000}
    with serving(tmp_path_factory.mktemp("schema"), _answered, **given) as running, running.client() as lab:
        lab.post("/v1/solve", json={"tasks": [text()]}, headers={"Prefer": "respond-async"})
        yield running


@pytest.fixture(scope="module")
def document(running: Running) -> Any:
    """The schema that the server itself gives."""
    return schemathesis.openapi.from_url(f"{running.url}/openapi.json", headers=HEADERS)


# other threads use Python's random numbers while a request is drawn, which Hypothesis takes for the strategy's doing
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.parametrize(("method", "path", "mode"), ASKED)
def test_every_route_keeps_to_the_document_whatever_is_sent(
    document: Any, method: str, path: str, mode: GenerationMode
) -> None:
    """No 5xx, no answer that the document does not describe, nothing malformed accepted, nothing without its key."""
    operation = document[path][method]

    @FAST
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(headers=HEADERS, excluded_checks=BEYOND_A_SCHEMA)

    holds()


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_the_routes_of_orchestrators_keep_to_the_document(document: Any, path: str) -> None:
    document[path]["GET"].Case().call_and_validate(headers=HEADERS)


def test_requests_that_follow_from_each_other_keep_to_the_document(document: Any) -> None:
    machine: Any = document.as_state_machine()

    class Following(machine):  # type: ignore[misc]
        def get_call_kwargs(self, case: schemathesis.Case[Any]) -> dict[str, Any]:
            return {"headers": HEADERS}

        def validate_response(self, response: Any, case: schemathesis.Case[Any], **options: Any) -> None:
            options.pop("headers", None)
            case.validate_response(response, excluded_checks=BEYOND_A_SCHEMA, headers=HEADERS)

    run_state_machine_as_test(Following, settings=settings(FAST, max_examples=8, stateful_step_count=6))


@pytest.mark.parametrize("file", TASK_FILES, ids=lambda file: file.stem)
def test_every_task_that_is_shipped_is_one_by_the_document(running: Running, file: Path) -> None:
    document = httpx.get(f"{running.url}/openapi.json", headers=HEADERS).json()
    body = jsonschema.Draft202012Validator({**document, "$ref": "#/components/schemas/SolveBody"})
    content = json.loads(file.read_text())
    in_arcs_form = [content] if "train" in content else list(content.values())
    parsed = [each.task.model_dump(mode="json", exclude_none=True) for each in load_tasks(file)]

    for task in (*in_arcs_form, *parsed):
        body.validate({"tasks": [task]})
    assert not body.is_valid({"tasks": [{**parsed[0], "queries": [[0] * 101]}]})


@given(task=grid_tasks() | text_tasks())
@settings(FAST, max_examples=30)
def test_every_task_that_the_library_takes_is_answered(running: Running, task: Task) -> None:
    body = {"tasks": [task.model_dump(mode="json", exclude_none=True)]}
    answer = httpx.post(f"{running.url}/v1/solve", json=body, headers=HEADERS)

    assert answer.status_code == 200
    assert len(answer.json()["results"][0]["solution"]["answers"]) == len(task.queries)
