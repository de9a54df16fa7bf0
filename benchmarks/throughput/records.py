"""What a run writes, a line a measurement, and the machine it ran on. Tables are made of these lines alone."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from benchmarks.throughput.rounds import Noise, Place
from router.checkout import commit_here

NOT_INSTALLED = "not installed"
_LIBRARIES = ("torch", "transformers", "peft", "trl")
WARM_UP = -1  # the round of what is not to be counted


@dataclass(frozen=True, slots=True)
class Record:
    """One measurement."""

    section: str  # compare, ladder, decode, route, memory or growth
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
    plan: Mapping[str, object] = field(default_factory=dict)  # all else that must be alike in results that are pooled

    @property
    def title(self) -> str:
        """What tables of these results stand under in a document: the kind of device, and the shape of a model that is
        not trained.
        """
        shape = self.plan.get("shape")
        return self.kind if shape is None else f"{self.kind}, {shape}"

    @classmethod
    def here(cls, device: torch.device, plan: Mapping[str, object], *, allow_noise: bool) -> About:
        """Describe this machine."""
        processor = processor_here()
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor
        versions = {"python": platform.python_version()} | {each: _version(each) for each in _LIBRARIES}
        return cls(
            name,
            device.type,
            processor,
            os.cpu_count() or 1,
            torch.get_num_threads(),
            versions,
            commit_here() or "unknown",
            shlex.join(["python", "-m", "benchmarks.throughput", *sys.argv[1:]]),
            allow_noise,
            plan,
        )

    def also(self, later: About) -> About:
        """Return what is to be said of a run that was broken off and gone on with.

        Raises:
            ValueError: the later one was on another machine, or of something else.
        """
        if replace(later, commit=self.commit, command=self.command) != self:
            raise ValueError("these results are of another machine or of other options. Give another file.")
        both = {
            name: "; ".join(dict.fromkeys([*getattr(self, name).split("; "), getattr(later, name)]))
            for name in ("commit", "command")
        }
        return replace(self, commit=both["commit"], command=both["command"])


def written(about: About | Record) -> str:
    """Return one line of JSON."""
    return json.dumps({type(about).__name__.lower(): asdict(about)})


def read(lines: Iterable[str]) -> tuple[About, list[Record]]:
    """Read what `written` wrote; of what was measured twice, as a run went on, the later counts.

    Raises:
        ValueError: nothing says which machine it was, or it was several.
    """
    about, records = None, dict[tuple[object, ...], Record]()
    for line in lines:
        content = json.loads(line)
        if "about" in content:
            found = About(**content["about"])
            about = found if about is None else about.also(found)
        else:
            noise = content["record"].pop("noise")
            record = Record(**content["record"], noise=None if noise is None else Noise(**noise))
            records[record.section, record.subject, record.place, record.name, record.round] = record
    if about is None:
        raise ValueError("no line says which machine it was. Give a file that `--results` wrote.")
    return about, list(records.values())


def whole_lines(file: Path) -> list[str]:
    """Return the lines of a file, without a last one that a kill has cut short."""
    return [line[:-1] for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]


def finished(records: Sequence[Record]) -> dict[Place, dict[int, dict[str, Noise | None]]]:
    """Return the noise of what is there, by place, round and name; warm-ups left out."""
    found: dict[Place, dict[int, dict[str, Noise | None]]] = {}
    for each in records:
        if each.round != WARM_UP:
            of_place = found.setdefault((each.section, each.subject, each.place), {})
            of_place.setdefault(each.round, {})[each.name] = each.noise
    return found


def _version(library: str) -> str:
    if importlib.util.find_spec(library) is None:
        return NOT_INSTALLED
    return importlib.metadata.version(library)


def processor_here() -> str:
    """Name this machine's processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def capabilities_here() -> str:
    """Name what torch sees of this machine's processor that kernels are chosen by: processors of one name differ in it,
    as a host may hide some.
    """
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.13 does not tell
    found = sorted(name for name, has in known.items() if has is True)
    return ", ".join([torch.backends.cpu.get_cpu_capability(), *found])
