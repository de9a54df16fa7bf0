"""A store may have lost an adapter at any time; it never hands out a wrong one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ttt_engine.adapter import Adapter
from ttt_engine.errors import AdapterRefused, StoreUnavailable
from ttt_engine.stores import AdapterStore, LocalAdapterStore, MemoryAdapterStore

KEY = "a" * 64
WEIGHTS, CONFIG, ABOUT = "adapter_model.safetensors", "adapter_config.json", "about.json"


def adapter(key: str = KEY, weights: bytes = b"weights \x00\xff") -> Adapter:
    return Adapter(
        key=key,
        weights=weights,
        peft_config='{"r": 4, "größe": 1}',
        base_fingerprint="base",
        task_fingerprint="task",
        losses=(2.5, 0.1 + 0.2),
        train_seconds=1.25,
        train_tokens=1234,
    )


def changed(folder: Path, **changes: object) -> None:
    about = json.loads((folder / ABOUT).read_text())
    (folder / ABOUT).write_text(json.dumps({**about, **changes}))


def without(folder: Path, name: str) -> None:
    about = json.loads((folder / ABOUT).read_text())
    del about[name]
    (folder / ABOUT).write_text(json.dumps(about))


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AdapterStore:
    return MemoryAdapterStore() if request.param == "memory" else LocalAdapterStore(tmp_path / "not" / "yet" / "there")


@pytest.fixture
def local(tmp_path: Path) -> LocalAdapterStore:
    return LocalAdapterStore(tmp_path / "adapters")


# Every store


def test_what_is_put_is_found_unchanged(store: AdapterStore) -> None:
    store.put(adapter())

    assert KEY in store
    assert store.get(KEY) == adapter()


def test_what_was_not_put_is_not_found(store: AdapterStore) -> None:
    store.put(adapter())

    assert "b" * 64 not in store
    assert store.get("b" * 64) is None


def test_adapters_are_kept_apart_by_key(store: AdapterStore) -> None:
    several = [adapter(key=letter * 64, weights=letter.encode()) for letter in "abc"]
    for each in several:
        store.put(each)

    assert [store.get(each.key) for each in several] == several


def test_putting_the_same_again_changes_nothing(store: AdapterStore) -> None:
    store.put(adapter())
    store.put(adapter())

    assert store.get(KEY) == adapter()


# The folder


def test_another_store_on_the_same_folder_finds_it(local: LocalAdapterStore) -> None:
    local.put(adapter())

    assert LocalAdapterStore(local.root).get(KEY) == adapter()


def test_looking_makes_no_folder(local: LocalAdapterStore) -> None:
    assert local.get(KEY) is None
    assert KEY not in local
    assert not local.root.exists()


def test_an_adapter_is_a_folder_of_three_files_and_nothing_is_left_beside_it(local: LocalAdapterStore) -> None:
    local.put(adapter())
    local.put(adapter())

    assert [path.name for path in local.root.iterdir()] == [KEY]
    assert sorted(path.name for path in (local.root / KEY).iterdir()) == sorted([WEIGHTS, CONFIG, ABOUT])
    assert (local.root / KEY / WEIGHTS).read_bytes() == adapter().weights


def test_of_several_writers_one_is_first_and_the_others_agree(local: LocalAdapterStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: local.put(adapter()), range(16)))

    assert local.get(KEY) == adapter()
    assert [path.name for path in local.root.iterdir()] == [KEY]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda folder: (folder / WEIGHTS).write_bytes(b"Weights \x00\xff"),
    "cut weights": lambda folder: (folder / WEIGHTS).write_bytes(b"weigh"),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "no config": lambda folder: (folder / CONFIG).unlink(),
    "no about": lambda folder: (folder / ABOUT).unlink(),
    "an empty folder": emptied,
    "about is no JSON": lambda folder: (folder / ABOUT).write_text('{"schema": '),
    "about is no text": lambda folder: (folder / ABOUT).write_bytes(b"\xff\xfe"),
    "about is a list": lambda folder: (folder / ABOUT).write_text("[]"),
    "about is a number": lambda folder: (folder / ABOUT).write_text("7"),
    "about lacks the losses": lambda folder: without(folder, "losses"),
    "losses are a number": lambda folder: changed(folder, losses=3),
    "about lacks the checksum": lambda folder: without(folder, "sha256"),
    "another schema": lambda folder: changed(folder, schema="adapter/0"),
    "another key": lambda folder: changed(folder, key="b" * 64),
    "another checksum": lambda folder: changed(folder, sha256="0" * 64),
}


@pytest.mark.parametrize("what", sorted(DAMAGE))
def test_a_damaged_adapter_is_refused_removed_and_makes_room_for_the_next(local: LocalAdapterStore, what: str) -> None:
    local.put(adapter())
    DAMAGE[what](local.root / KEY)

    with pytest.raises(AdapterRefused, match="removed"):
        local.get(KEY)

    assert KEY not in local
    assert local.get(KEY) is None
    local.put(adapter())
    assert local.get(KEY) == adapter()


def test_an_adapter_under_another_s_name_is_refused(local: LocalAdapterStore) -> None:
    local.put(adapter())
    shutil.copytree(local.root / KEY, local.root / ("b" * 64))

    with pytest.raises(AdapterRefused):
        local.get("b" * 64)

    assert local.get(KEY) == adapter()


def test_what_a_killed_writer_left_is_never_found(local: LocalAdapterStore) -> None:
    local.put(adapter())
    (local.root / KEY).rename(local.root / ".new-1234")

    assert KEY not in local
    assert local.get(KEY) is None


def test_a_root_that_is_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    local = LocalAdapterStore(tmp_path / "file")

    assert KEY not in local
    with pytest.raises(StoreUnavailable, match="file"):
        local.get(KEY)
    with pytest.raises(StoreUnavailable, match="file"):
        local.put(adapter())


def test_a_name_the_file_system_will_not_take_is_unavailable_and_not_there(local: LocalAdapterStore) -> None:
    too_long = "a" * 1000
    local.put(adapter())

    assert too_long not in local
    with pytest.raises(StoreUnavailable):
        local.get(too_long)
    with pytest.raises(StoreUnavailable):
        local.put(adapter(too_long))


def test_a_full_disk_is_unavailable_and_leaves_nothing_behind(
    local: LocalAdapterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(StoreUnavailable, match="No space left"):
        local.put(adapter())

    assert list(local.root.iterdir()) == []
