"""An adapter as a file that is sent: the folder of the library's export, zipped."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from router.serve.errors import NoAdapter
from router.traces.stored import read_trace
from ttt_engine.export import export_adapter

if TYPE_CHECKING:
    from policies.ledger import Ledger
    from router.router import Router


def zipped(router: Router, ledger: Ledger, trace_id: str) -> str:
    """Write the adapter of a trace into a temporary zip file, and return its path; the caller removes it.

    Raises:
        NoAdapter: nothing was trained, or it is not kept any more.
        UnknownTrace, TraceNotKept: as for `read_trace`.
        StoreUnavailable: it cannot be asked whether it is kept.
        AdapterRefused: neither PEFT nor transformers could load it.
    """
    trained = read_trace(ledger, trace_id).trace.adapter
    engine = router.steps.ttt
    if trained is None or engine is None:
        raise NoAdapter("nothing was trained for this answer")
    adapter = engine.store.get(trained.key)
    if adapter is None:
        raise NoAdapter("the adapter of this answer is not kept any more")
    descriptor, path = tempfile.mkstemp(suffix=".zip")
    os.close(descriptor)
    try:
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(export_adapter(adapter, Path(folder)).iterdir()):
                archive.write(file, file.name)
    except BaseException:
        os.unlink(path)
        raise
    return path
