"""What a run writes, a line a measurement, and the machine it ran on. Tables are made of these lines alone."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from benchmarks.throughput.rounds import Noise

NOT_INSTALLED = "not installed"
_LIBRARIES = ("torch", "transformers", "peft", "trl")
WARM_UP = -1  # the round of what is not to be counted


@dataclass(frozen=True, slots=True)
class Record:
    """One measurement."""

    section: str  # compare, decode, route, memory or growth
    subject: str  # the model
    place: str  # on the axis of the section, such as "8" adapters
    name: str  # of what was measured
    round: int
    seconds: float
    noise: Noise | None
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class About:
    """The machine, and what ran on it."""

    device: str
    kind: str  # cpu or cuda
    processor: str
    cores: int
    threads: int
    versions: Mapping[str, str]
    commit: str
    command: str
    allow_noise: bool

    @classmethod
    def here(cls, device: torch.device, *, allow_noise: bool) -> About:
        """Describe this machine."""
        processor = _processor()
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor
        versions = {"python": platform.python_version()} | {each: _version(each) for each in _LIBRARIES}
        return cls(
            name,
            device.type,
            processor,
            os.cpu_count() or 1,
            torch.get_num_threads(),
            versions,
            _commit(),
            shlex.join(["python", "-m", "benchmarks.throughput", *sys.argv[1:]]),
            allow_noise,
        )


def written(about: About | Record) -> str:
    """Return one line of JSON."""
    return json.dumps({type(about).__name__.lower(): asdict(about)})


def read(lines: Iterable[str]) -> tuple[About, list[Record]]:
    """Read what `written` wrote.

    Raises:
        ValueError: nothing says which machine it was.
    """
    about, records = None, []
    for line in lines:
        content = json.loads(line)
        if "about" in content:
            about = About(**content["about"])
        else:
            noise = content["record"].pop("noise")
            records.append(Record(**content["record"], noise=None if noise is None else Noise(**noise)))
    if about is None:
        raise ValueError("no line says which machine it was. Give a file that `--results` wrote.")
    return about, records


def _version(library: str) -> str:
    if importlib.util.find_spec(library) is None:
        return NOT_INSTALLED
    return importlib.metadata.version(library)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """Return the commit of this checkout; "unknown" without git or a repository."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
