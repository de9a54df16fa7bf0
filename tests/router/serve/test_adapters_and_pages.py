"""What is sent as a file and what is run from a page: both leave nothing behind, and keep nobody."""

from __future__ import annotations

import io
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis

from router.serve import pages
from tests.models import CONSTANT_TASK, tiny_model
from tests.router.serve.serving import LAB, Held, Running, serving, text, until
from ttt_engine.errors import StoreUnavailable
from ttt_engine.stores import MemoryAdapterStore, TieredAdapterStore


class Unreachable(MemoryAdapterStore):
    """A store whose server is gone."""

    def get(self, key: str) -> None:
        raise StoreUnavailable("nobody is there", code="connection")


def test_an_adapter_is_sent_whole_or_not_and_leaves_no_file_and_a_store_that_is_away_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = CONSTANT_TASK.model_dump(mode="json", exclude_none=True)
    files = tmp_path / "files"
    files.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(files))
    few: dict[str, Any] = {"ttt_steps": 2, "ttt_rank": 2, "n_views": 2}
    with serving(tmp_path / "home", tiny_model(), **few) as running, running.client() as lab:
        solved = lab.post("/v1/solve", json={"tasks": [task], "arm": "ttt"}).json()["results"][0]["solution"]
        path = f"/v1/adapters/{solved['trace_id']}"
        whole = lab.get(path)
        malformed = lab.get(path, headers={"Range": "bytes=last"})
        beyond = lab.get(path, headers={"Range": "bytes=999999999-"})
        until(lambda: not list(files.iterdir()), "a file is left")
        engine = running.service.tenants.router("lab").steps.ttt
        assert engine is not None
        engine.store = TieredAdapterStore([Unreachable()])
        away = lab.get(path)

    assert (whole.status_code, malformed.status_code, beyond.status_code) == (200, 400, 416)
    assert (away.status_code, away.json()["code"]) == (503, "store_unavailable")


@pytest.mark.parametrize(
    ("settings", "status", "names"),
    [
        ({}, 200, {"adapter_config.json", "adapter_model.safetensors"}),
        ({"ttt_method": "full"}, 200, {"config.json", "model.safetensors"}),
        ({"ttt_task_token": True}, 409, set()),
    ],
    ids=["LoRA", "all of the model", "with a task token"],
)
def test_what_was_trained_is_sent_as_the_document_says_or_refused_with_the_reason(
    tmp_path: Path, settings: dict[str, Any], status: int, names: set[str]
) -> None:
    task = CONSTANT_TASK.model_dump(mode="json", exclude_none=True)
    few: dict[str, Any] = {"ttt_steps": 2, "ttt_rank": 2, "n_views": 2, **settings}
    with serving(tmp_path, tiny_model(), **few) as running, running.client() as lab:
        solved = lab.post("/v1/solve", json={"tasks": [task], "arm": "ttt"}).json()["results"][0]["solution"]
        headers = {"Authorization": f"Bearer {LAB}"}
        document: Any = schemathesis.openapi.from_url(f"{running.url}/openapi.json", headers=headers)
        route = document["/v1/adapters/{trace_id}"]["GET"]
        sent = route.Case(path_parameters={"trace_id": solved["trace_id"]}).call_and_validate(headers=headers)

    assert sent.status_code == status
    if status == 200:
        assert set(zipfile.ZipFile(io.BytesIO(sent.content)).namelist()) == names
    else:
        assert sent.json()["code"] == "adapter_refused"
        assert "without task_token" in sent.json()["detail"]


class Page:
    """The page of a task that was solved, and its buttons."""

    def __init__(self, running: Running, browser: httpx.Client, held: Held) -> None:
        held.go.set()
        with running.client() as lab:
            solved = lab.post("/v1/solve", json={"tasks": [text("wait")]}).json()["results"][0]["solution"]
        running.service.tenants.router("lab").flush()
        held.go.clear()
        self._browser, self._path = browser, f"/traces/{solved['trace_id']}"
        self._form = {"token": browser.get(self._path).text.split('name="token" value="')[1].split('"')[0]}

    def run(self) -> httpx.Response:
        return self._browser.post(f"{self._path}/run/icl", data=self._form)


def test_what_is_run_from_pages_keeps_nobody_from_reading(tmp_path: Path) -> None:
    held = Held()
    with (
        serving(tmp_path, held) as running,
        running.client() as lab,
        running.client(None, auth=("any", LAB)) as browser,
        ThreadPoolExecutor(45) as pool,
    ):
        page = Page(running, browser, held)
        runs = [pool.submit(page.run) for _ in range(45)]  # more than there are threads for all other routes
        until(lambda: running.service.n_running + running.service.n_waiting >= 8, "they did not begin")
        time.sleep(0.5)
        began = time.monotonic()
        listed = lab.get("/v1/traces")
        took_s = time.monotonic() - began
        held.go.set()
        codes = {run.result(60).status_code for run in runs}

    assert listed.status_code == 200
    assert took_s < 5
    assert codes == {303}


def test_what_a_page_runs_and_nobody_waits_for_any_more_is_cancelled_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_LONGEST_RUN_S", 0.2)
    held = Held()
    with serving(tmp_path, held) as running, running.client(None, auth=("any", LAB)) as browser:
        answer = Page(running, browser, held).run()
        held.go.set()
        until(lambda: not running.service.n_running, "it still runs")
        n_solves = running.solves()

    assert answer.status_code == 409
    assert "deadline reached" in answer.text
    assert n_solves == 1
