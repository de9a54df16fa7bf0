"""A file is written whole, and one that cannot be leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.whole_files import UNFINISHED, write_whole


class Crash(BaseException):
    """The end of the process, as far as the code can tell."""


def test_a_file_is_written_whole_with_the_mode_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    for content in (b"first", b"second"):
        write_whole(path, content, mode=0o600)

    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    taken = tmp_path / "job.json"
    taken.mkdir()

    with pytest.raises(IsADirectoryError):
        write_whole(taken, b"content")

    assert list(tmp_path.iterdir()) == [taken]


@pytest.mark.parametrize(("point", "content"), [("written", b"first"), ("synced", b"first"), ("renamed", b"second")])
def test_wherever_a_crash_strikes_the_file_holds_one_or_the_other(tmp_path: Path, point: str, content: bytes) -> None:
    path = tmp_path / "job.json"
    write_whole(path, b"first")

    def strike(reached: str) -> None:
        if reached == point:
            raise Crash

    with pytest.raises(Crash):
        write_whole(path, b"second", reached=strike)

    assert path.read_bytes() == content
    assert {left.suffix for left in tmp_path.iterdir()} <= {path.suffix, UNFINISHED}
