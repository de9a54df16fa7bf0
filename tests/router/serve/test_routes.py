"""What each route answers to whom, over a real connection."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.serve.app import make_api
from router.serve.gate import OPEN
from router.serve.messages import EXAMPLE_TASK
from tests.router.serve.serving import LAB, OTHER, Running, text

ROUTES = [  # all of them; what is not here is found by `test_this_table_is_whole`
    ("POST", "/v1/solve"),
    ("POST", "/v1/decide"),
    ("POST", "/v1/feedback"),
    ("GET", "/v1/jobs/{job_id}"),
    ("DELETE", "/v1/jobs/{job_id}"),
    ("GET", "/v1/traces"),
    ("GET", "/v1/traces/{trace_id}"),
    ("GET", "/v1/policy"),
    ("GET", "/v1/adapters/{trace_id}"),
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/"),
    ("GET", "/policies"),
    ("GET", "/traces/{rest:path}"),
    ("GET", "/theme/{rest:path}"),
    ("GET", "/static/{rest:path}"),
]


BYTES = {"/metrics": ["text/plain"], "/v1/adapters/{trace_id}": ["application/zip"]}


def solved(client: httpx.Client, task: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    answer = client.post("/v1/solve", json={"tasks": [task or text()], **options})
    assert answer.status_code == 200, answer.text
    solution: dict[str, Any] = answer.json()["results"][0]["solution"]
    return solution


def test_this_table_is_whole(running: Running) -> None:
    served = {(method, route.path) for route in make_api(running.service).routes for method in route.methods or {"GET"}}  # type: ignore[attr-defined]

    assert served - {("HEAD", path) for path in ("/health", "/ready", "/openapi.json")} == set(ROUTES)


def test_every_route_of_programs_is_explained_in_the_documentation() -> None:
    explained = (Path(__file__).parents[3] / "docs" / "service.md").read_text()

    for method, path in ROUTES[:12]:
        name = re.sub(r"\{\w+\}", "ID", path)
        assert f"`{method} {name}`" in explained or (method == "DELETE" and f"-X {method}" in explained), (method, path)


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1] not in OPEN])
@pytest.mark.parametrize("key", [None, "wrong-key-of-the-right-length", LAB[:-1], LAB + "x"])
def test_no_route_answers_without_its_key(running: Running, method: str, path: str, key: str | None) -> None:
    with running.client(key) as client:
        answer = client.request(method, path.replace("{rest:path}", "x"), json={"tasks": [text()]})

    assert answer.status_code == 401
    assert answer.json()["code"] == "key_required"
    assert answer.headers["content-type"] == "application/problem+json"
    assert "WWW-Authenticate" in answer.headers


@pytest.mark.parametrize("path", ["/v1/unheard-of", "/docs", "//v1/policy", "/HEALTH", "/health/"])
def test_a_path_that_is_none_needs_a_key_too(running: Running, path: str) -> None:
    with running.client(None) as client:
        assert client.get(path).status_code == 401


def test_health_needs_no_key(running: Running) -> None:
    with running.client(None) as client:
        answer = client.get("/health")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "degraded": []})


def test_load_balancers_may_ask_for_the_head_alone_with_the_key_where_one_is_needed(running: Running) -> None:
    with running.client(None) as stranger, running.client() as lab:
        healthy, refused, ready = stranger.head("/health"), stranger.head("/ready"), lab.head("/ready")

    assert [answer.status_code for answer in (healthy, refused, ready)] == [200, 401, 200]
    assert healthy.content == ready.content == b""


def test_a_task_is_answered_and_recorded(running: Running, lab: httpx.Client) -> None:
    solution = solved(lab, seed=3)

    assert solution["answers"][0]["value"] == "D"
    assert solution["arm"] == "icl"
    assert solution["degraded"] == []
    recorded = running.ledger.decision(solution["trace_id"])
    assert (recorded.tenant, recorded.seed) == ("lab", 3)


def test_several_tasks_are_answered_in_their_order(lab: httpx.Client) -> None:
    answer = lab.post("/v1/solve", json={"tasks": [text(query) for query in "xyz"]})

    values = [result["solution"]["answers"][0]["value"] for result in answer.json()["results"]]
    assert values == ["X", "Y", "Z"]


def test_a_fault_that_nobody_foresaw_is_answered_with_500_and_says_nothing(lab: httpx.Client) -> None:
    refused = lab.post("/v1/solve", json={"tasks": [EXAMPLE_TASK]})

    assert refused.status_code == 500  # this script knows texts alone
    assert refused.json()["code"] == "internal"
    assert "Assertion" not in refused.text


def test_one_task_that_fails_does_not_cost_the_others_theirs(lab: httpx.Client) -> None:
    answer = lab.post("/v1/solve", json={"tasks": [text("x"), EXAMPLE_TASK]})

    first, second = answer.json()["results"]
    assert first["solution"]["answers"][0]["value"] == "X"
    assert second["problem"]["code"] == "internal"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "tasks"),
        ({"tasks": []}, "tasks"),
        ({"tasks": [{}]}, "tasks[0].demonstrations"),
        ({"tasks": [text(), {**text(), "queries": [[11]]}]}, "tasks[1].queries[0][0]"),
        ({"tasks": [text()], "arm": "magic"}, "arm"),
        ({"tasks": [text()], "seed": "7"}, "seed"),
        ({"tasks": [text()], "seed": -1}, "seed"),
        ({"tasks": [text()], "deadline_s": 0}, "deadline_s"),
        ({"tasks": [text()], "deadline": 3}, "deadline"),
        ({"tasks": [text()] * 65}, "tasks"),
        ([1], "body"),
    ],
)
def test_a_body_that_will_not_do_is_refused_by_the_name_of_the_field(lab: httpx.Client, body: Any, field: str) -> None:
    answer = lab.post("/v1/solve", json=body)

    assert answer.status_code == 422
    assert answer.json()["field"].startswith(field)
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    ("route", "body", "said"),
    [
        ("solve", {"tasks": [text()], "deadline": 3}, ("deadline", "no such field", "Did you mean deadline_s?")),
        ("solve", {}, ("tasks", "missing", "Give tasks.")),
        ("solve", {"tasks": []}, ("tasks", "got a list of 0", "Give a list of one task or more.")),
        ("solve", {"tasks": [text()], "seed": "7"}, ("seed", "got the text '7'", "Give a whole number from 0 to")),
        ("solve", {"tasks": [text()], "deadline_s": "x"}, ("deadline_s", "got the text 'x'", "Give seconds above")),
        ("solve", text(), ("body", "got a task by itself", 'Wrap it: {"tasks": [ ... ]}.')),
        ("solve", {"train": [], "test": []}, ("body", "got a task by itself", 'Wrap it: {"tasks": [ ... ]}.')),
        ("decide", text(), ("body", "got a task by itself", 'Wrap it: {"task": ... }.')),
        ("solve", [text()], ("body", "got a list of 1", "Give an object with tasks, arm, seed and deadline_s.")),
        ("feedback", {"trace_id": "0" * 32, "correct": 2}, ("correct", "got 2 (int)", "Give true, false or a number")),
    ],
)
def test_what_was_got_and_what_would_do_are_told_once_each_and_in_words(
    lab: httpx.Client, route: str, body: Any, said: tuple[str, str, str]
) -> None:
    problem = lab.post(f"/v1/{route}", json=body).json()
    field, got, remedy = said

    assert (problem["code"], problem["field"], problem["detail"]) == ("body_refused", field, f"{field}: {got}.")
    assert problem["remedy"].startswith(remedy)


@pytest.mark.parametrize("id", ["last", "0" * 31, "0" * 33, "X" * 32, "0" * 31 + "%0A", "%00", "..%2e"])
def test_an_id_of_another_form_is_that_of_nothing(lab: httpx.Client, id: str) -> None:
    traces = [lab.get(f"/v1/{kind}/{id}") for kind in ("traces", "adapters")]
    traces.append(lab.post("/v1/feedback", json={"trace_id": id, "correct": True}))
    jobs = [lab.get(f"/v1/jobs/{id}"), lab.delete(f"/v1/jobs/{id}")]
    jobs.append(lab.get(f"/v1/jobs/{id}", headers={"Accept": "text/event-stream"}))

    assert {(answer.status_code, answer.json()["code"]) for answer in traces} == {(404, "unknown_trace")}
    assert all("all 32 characters" in answer.json()["detail"] for answer in traces)
    assert {(answer.status_code, answer.json()["code"]) for answer in jobs} == {(404, "unknown_job")}


@pytest.mark.parametrize(
    ("method", "path", "field", "remedy"),
    [
        ("GET", "/v1/traces?arm=bogus", "arm", "Give one of zero_shot, icl,"),
        ("GET", "/v1/traces?n=0", "n", "It should be greater than or equal to 1."),
        ("GET", "/v1/traces?arms=ttt", "arms", "Did you mean arm?"),
        ("GET", "/v1/traces?x=1", "x", "There are n, before, arm, outcome and degraded."),
        ("POST", "/v1/solve?arm=ttt", "arm", "This route takes none."),
        ("GET", "/v1/policy?verbose=1", "verbose", "This route takes none."),
    ],
)
def test_a_parameter_that_a_route_does_not_take_is_refused(
    lab: httpx.Client, method: str, path: str, field: str, remedy: str
) -> None:
    answer = lab.request(method, path, json={"tasks": [text()]} if method == "POST" else None)
    problem = answer.json()

    assert (answer.status_code, problem["code"], problem["field"]) == (422, "query_refused", field)
    assert problem["remedy"].startswith(remedy)


def test_probes_may_be_asked_with_whatever_a_balancer_adds(lab: httpx.Client) -> None:
    assert [lab.get(f"/{path}?at=1").status_code for path in ("health", "ready", "metrics")] == [200, 200, 200]


def test_a_path_or_a_method_that_is_none_is_told_with_what_there_is(lab: httpx.Client) -> None:
    path, method = lab.get("/v1/unheard-of"), lab.put(f"/v1/jobs/{'0' * 32}")

    assert (path.status_code, path.json()["code"]) == (404, "no_such_route")
    assert path.json()["detail"] == "there is no such route."  # which may be a key
    assert "GET /openapi.json" in path.json()["remedy"]
    assert (method.status_code, method.headers["Allow"]) == (405, "DELETE, GET")
    assert method.json()["remedy"] == "This path takes DELETE, GET."


def test_what_is_promised_and_followed_begins_with_its_id(lab: httpx.Client) -> None:
    headers = {"Prefer": "respond-async", "Accept": "text/event-stream"}
    answer = lab.post("/v1/solve", json={"tasks": [text()]}, headers=headers)
    first, data = answer.text.split("\n")[:2]
    job_id = json.loads(data.removeprefix("data: "))["id"]

    assert (answer.status_code, first) == (200, "event: job")
    assert answer.headers["Location"] == f"/v1/jobs/{job_id}"
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert lab.get(answer.headers["Location"]).json()["state"] == "done"


ARC = {
    "train": [{"input": i, "output": o} for i, o in (("a", "A"), ("b", "B"), ("c", "C"))],
    "test": [{"input": "d", "output": "D"}, {"input": "e"}],
}


def test_a_task_in_the_form_of_arc_files_is_answered_as_the_library_reads_it(lab: httpx.Client) -> None:
    solution = solved(lab, ARC)
    decided = lab.post("/v1/decide", json={"task": ARC})

    assert [answer["value"] for answer in solution["answers"]] == ["D", "E"]
    assert solution["task_id"]
    assert decided.status_code == 200


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"train": ARC["train"]}, "tasks[1].test"),
        ({"test": ARC["test"]}, "tasks[1].train"),
        ({**ARC, "test": [{"input": "d"}, {"input": [[11]]}]}, "tasks[1].test[1].input"),
        ({**ARC, "test": [{"input": "d", "output": [[1]]}]}, "tasks[1].test[0].output"),
        ({**ARC, "instruction": "In capitals."}, "tasks[1]"),  # which would be left out
    ],
)
def test_what_is_wrong_with_it_is_told_in_its_own_words(lab: httpx.Client, given: dict[str, Any], field: str) -> None:
    refused = lab.post("/v1/solve", json={"tasks": [text(), given]})

    assert refused.status_code == 422
    assert refused.json()["field"].startswith(field)
    assert refused.json()["remedy"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"tasks": ' + b"[" * 5000 + b"]" * 5000 + b"}"])
def test_what_is_no_json_is_refused(lab: httpx.Client, content: bytes) -> None:
    answer = lab.post("/v1/solve", content=content, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["field"]) == (422, "body")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"])
def test_a_body_of_another_kind_is_refused(lab: httpx.Client, kind: str) -> None:
    answer = lab.post("/v1/solve", content=json.dumps({"tasks": [text()]}), headers={"Content-Type": kind})

    assert answer.status_code == 415


@pytest.mark.parametrize("arm", ["ttt", "remote"])  # a scripted model cannot be trained, and no server is set
def test_an_arm_that_cannot_be_had_is_named(lab: httpx.Client, arm: str) -> None:
    answer = lab.post("/v1/solve", json={"tasks": [text()], "arm": arm})

    assert answer.status_code == 422
    assert answer.json()["code"] == "arm_unavailable"
    assert answer.json()["available"] == ["icl", "icl_vote"]


def test_a_body_that_is_too_long_is_refused_before_it_is_read(running: Running, lab: httpx.Client) -> None:
    declared = lab.post("/v1/solve", content=b" " * (8 * 2**20 + 1), headers={"Content-Type": "application/json"})

    assert declared.status_code == 413
    assert declared.json()["code"] == "body_too_large"


def test_a_body_without_a_length_is_counted_as_it_comes(running: Running) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    head = f"POST /v1/solve HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {LAB}\r\nContent-Type: application/json\r\n"
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(9 * 16):  # 9 MiB, and no end of the body
            connection.sendall(piece)
        said = connection.recv(200)

    assert said.startswith(b"HTTP/1.1 413")


def test_a_decision_is_given_and_nothing_is_recorded(running: Running, lab: httpx.Client) -> None:
    before = running.solves()
    answer = lab.post("/v1/decide", json={"task": text("q")})

    decision = answer.json()
    assert answer.status_code == 200
    assert decision["arm"] in decision["propensities"]
    assert sum(decision["propensities"].values()) == pytest.approx(1.0)
    assert running.solves() == before


def test_feedback_is_in_the_ledger_when_it_is_answered(running: Running, lab: httpx.Client) -> None:
    trace_id = solved(lab)["trace_id"]
    answer = lab.post("/v1/feedback", json={"trace_id": trace_id, "answer": "D", "source": "review"})

    assert (answer.status_code, answer.json()) == (200, {"trace_id": trace_id, "recorded": True})
    assert ("review", "exact", 1.0) in [(o.source, o.kind, o.value) for o in running.ledger.outcomes(trace_id)]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"correct": True, "reward": 0.5}, 422),
        ({}, 422),
        ({"reward": 1.5}, 422),
        ({"correct": "yes"}, 422),
        ({"answer": [[1, 2]]}, 422),
        ({"answer": 5}, 422),
        ({"answer": True}, 422),
        ({"answer": {"a": 1}}, 422),
        ({"answer": []}, 422),
        ({"answer": [None]}, 422),
        ({"correct": True, "source": "a\nb"}, 422),
        ({"correct": True, "reason": ""}, 422),
        ({"correct": True, "reason": "a\0b"}, 422),
    ],
)
def test_feedback_that_will_not_do_is_refused(lab: httpx.Client, said: dict[str, Any], status: int) -> None:
    answer = lab.post("/v1/feedback", json={"trace_id": solved(lab)["trace_id"], **said})

    assert answer.status_code == status
    assert answer.json()["remedy"]


def test_a_source_that_says_otherwise_later_is_told_how_to_correct_it(running: Running, lab: httpx.Client) -> None:
    trace_id = solved(lab)["trace_id"]
    lab.post("/v1/feedback", json={"trace_id": trace_id, "correct": True})
    refused = lab.post("/v1/feedback", json={"trace_id": trace_id, "correct": False})
    corrected = lab.post("/v1/feedback", json={"trace_id": trace_id, "correct": False, "reason": "überlesen"})
    (outcome,) = running.ledger.effective_outcomes(trace_id)

    assert (refused.status_code, refused.json()["code"]) == (409, "outcome_conflict")
    assert "`reason`" in refused.json()["remedy"]
    assert corrected.status_code == 200
    assert (outcome.reported.value, outcome.value) == (1.0, 0.0)
    assert [each.reason for each in outcome.corrections] == ["überlesen"]


def test_a_trace_is_shown_with_what_came_of_it_and_why(lab: httpx.Client) -> None:
    trace_id = solved(lab)["trace_id"]
    lab.post("/v1/feedback", json={"trace_id": trace_id, "correct": True})
    shown = lab.get(f"/v1/traces/{trace_id}").json()

    assert shown["trace"]["task"]["queries"] == ["d"]
    assert shown["outcomes"][0]["value"] == 1.0
    assert "It was right" in shown["why"][0]


def test_traces_are_listed_in_pages_newest_first(running: Running, lab: httpx.Client) -> None:
    ids = [solved(lab)["trace_id"] for _ in range(3)]
    running.service.tenants.router("lab").flush()
    first = lab.get("/v1/traces", params={"n": 2}).json()
    second = lab.get("/v1/traces", params={"n": 2, "before": first["next"]}).json()

    assert [line["trace_id"] for line in first["traces"]] == [ids[2], ids[1]]
    assert second["traces"][0]["trace_id"] == ids[0]


def test_no_tenant_sees_or_judges_what_is_anothers(running: Running, lab: httpx.Client, other: httpx.Client) -> None:
    trace_id = solved(lab)["trace_id"]
    job = lab.post("/v1/solve", json={"tasks": [text()]}, headers={"Prefer": "respond-async"}).json()["id"]
    running.service.tenants.router("lab").flush()

    for path in (f"/v1/traces/{trace_id}", f"/v1/adapters/{trace_id}", f"/v1/jobs/{job}", f"/traces/{trace_id}/json"):
        assert other.get(path).status_code == 404, path
    assert other.post("/v1/feedback", json={"trace_id": trace_id, "correct": False}).status_code == 404
    assert other.delete(f"/v1/jobs/{job}").status_code == 404
    assert trace_id not in other.get("/v1/traces", params={"n": 500}).text
    with running.client(None, auth=("any", OTHER)) as browser:
        assert trace_id not in browser.get("/").text
        assert browser.get(f"/traces/{trace_id}").status_code == 404
    with running.client(None, auth=("any", LAB)) as browser:
        assert trace_id in browser.get("/").text
        assert browser.get(f"/traces/{trace_id}").status_code == 200


def test_a_browsers_own_login_is_not_taken_for_the_routes_of_programs(running: Running) -> None:
    with running.client(None, auth=("any", LAB)) as browser:  # which it would send along with a forged form, too
        assert browser.get("/v1/policy").status_code == 401


def test_a_job_is_promised_found_and_followed(lab: httpx.Client) -> None:
    taken = lab.post("/v1/solve", json={"tasks": [text("x"), text("y")]}, headers={"Prefer": "respond-async"})
    assert taken.status_code == 202
    with lab.stream("GET", taken.headers["Location"], headers={"Accept": "text/event-stream"}) as stream:
        events = [line for line in stream.iter_lines() if line.startswith("event: ")]
    job = lab.get(taken.headers["Location"]).json()

    assert events[-1] == "event: done"
    assert (job["state"], job["n_done"]) == ("done", 2)
    assert [result["solution"]["answers"][0]["value"] for result in job["results"]] == ["X", "Y"]


def test_events_tell_the_steps_of_the_graph_and_then_the_result(lab: httpx.Client) -> None:
    answer = lab.post("/v1/solve", json={"tasks": [text()]}, headers={"Accept": "text/event-stream"})

    blocks = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    events = [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]
    steps = [content["step"] for name, content in events if name == "step"]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert steps == ["admit", "probe", "lookup", "look_closer", "decide", "answer_icl", "verify", "record"]
    assert [name for name, _ in events[-2:]] == ["result", "done"]
    assert events[-2][1]["solution"]["answers"][0]["value"] == "D"


def test_the_same_request_under_the_same_key_is_done_once(running: Running, lab: httpx.Client) -> None:
    before, headers = running.solves(), {"Idempotency-Key": "once"}
    answers = [lab.post("/v1/solve", json={"tasks": [text("k")]}, headers=headers).json() for _ in range(3)]

    assert answers[0] == answers[1] == answers[2]
    assert running.solves() == before + 1


def test_a_key_of_another_request_is_refused_and_other_tenants_have_their_own(
    lab: httpx.Client, other: httpx.Client
) -> None:
    headers = {"Idempotency-Key": "mine"}
    lab.post("/v1/solve", json={"tasks": [text("k")]}, headers=headers)
    refused = lab.post("/v1/solve", json={"tasks": [text("l")]}, headers=headers)

    assert (refused.status_code, refused.json()["code"]) == (422, "key_reused")
    assert other.post("/v1/solve", json={"tasks": [text("l")]}, headers=headers).status_code == 200


def test_who_decides_is_told(lab: httpx.Client) -> None:
    policy = lab.get("/v1/policy").json()

    assert policy["deciding"].startswith("loo_threshold@")
    assert policy["champion"] is None


def test_nothing_trained_is_no_adapter(lab: httpx.Client) -> None:
    answer = lab.get(f"/v1/adapters/{solved(lab)['trace_id']}")

    assert (answer.status_code, answer.json()["code"]) == (404, "no_adapter")


def test_what_is_counted_is_there_for_prometheus_and_names_no_tenant(lab: httpx.Client) -> None:
    solved(lab)
    said = lab.get("/metrics").text

    assert 'ttt_router_solves_total{answered_by="icl",outcome="solved"}' in said
    assert 'ttt_router_requests_total{route="/v1/solve",status="200"}' in said
    assert "ttt_router_compute_seconds_total" in said
    assert '"lab"' not in said
    assert "tenant=" not in said


def test_the_document_says_that_a_key_is_needed_and_shows_examples(lab: httpx.Client) -> None:
    document = lab.get("/openapi.json").json()

    assert document["security"] == [{"key": []}]
    assert document["components"]["schemas"]["SolveBody"]["examples"][0]["tasks"] == [EXAMPLE_TASK]
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["description"]
    content = {path: document["paths"][path]["get"]["responses"]["200"]["content"] for path in BYTES}
    assert {path: list(kinds) for path, kinds in content.items()} == BYTES


def test_pages_may_be_used_with_the_same_key(running: Running) -> None:
    with running.client(None, auth=("lab", LAB)) as browser, running.client() as lab:
        trace_id = solved(lab)["trace_id"]
        page = browser.get(f"/traces/{trace_id}")
        form = {"token": page.text.split('name="token" value="')[1].split('"')[0], "answer": "right"}
        said = browser.post(f"/traces/{trace_id}/feedback", data=form)
        again = browser.post(f"/traces/{trace_id}/run/icl_vote", data=form)
        forged = browser.post(f"/traces/{trace_id}/feedback", data={"token": "0", "answer": "wrong"})

    assert (said.status_code, again.status_code) == (303, 303)
    assert forged.status_code == 409
    ran = running.ledger.decision(again.headers["location"].rpartition("/")[2])
    assert (ran.arm, ran.tenant) == ("icl_vote", "lab")
    assert [outcome.value for outcome in running.ledger.outcomes(trace_id)] == [1.0]
