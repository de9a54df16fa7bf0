"""Who may import whom, read from the source: lazy imports and those for type checkers count like any other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("icl_engine", "policies", "router", "ttt_engine")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SCRIPTS = sorted(path for folder in ("benchmarks", "examples") for path in (ROOT / folder).rglob("*.py"))

KNOWS = {  # package -> packages it may import
    "icl_engine": {"icl_engine"},
    "ttt_engine": {"icl_engine", "ttt_engine"},
    "policies": {"icl_engine", "policies"},
    "router": set(PACKAGES),
}
NEVER = {  # package -> libraries it may not import
    "icl_engine": {"langgraph", "peft", "ray", "redis", "sklearn", "sqlalchemy"},
    "ttt_engine": {"langgraph", "sklearn", "sqlalchemy"},
    "policies": {"langgraph", "peft", "ray", "redis", "torch", "transformers"},
    "router": {"peft", "ray", "redis"},
}
ONLY_IN = {  # library -> the one module, or package, that imports it
    "langgraph": "router/graph.py",
    "ray": "ttt_engine/executors/ray/",
    "redis": "ttt_engine/stores/redis/",
}
UNSAFE_MODULES = {"_pickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "torch.load"}


def imported(tree: ast.AST) -> set[str]:
    """Return the full names of all modules that `tree` imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                names.update(f"{module}.{alias.name}" for alias in node.names)
            case ast.Call(args=[ast.Constant(value=str(name)), *_]) if _dotted(node.func).endswith(
                ("import_module", "__import__")
            ):
                names.add(name)
            case _:
                pass
    return names


def unsafe(tree: ast.AST) -> Iterator[str]:
    """Yield what in `tree` could run code that comes with data."""
    for name in imported(tree):
        if name.partition(".")[0] in UNSAFE_MODULES or name in UNSAFE_CALLS:
            yield f"import of {name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _dotted(node.func) in UNSAFE_CALLS:
            yield f"{_dotted(node.func)}() in line {node.lineno}"
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "trust_remote_code") and _is_on(node.value):
            yield f"{node.arg} in line {node.value.lineno}"


def _is_on(value: ast.expr) -> bool:
    return not (isinstance(value, ast.Constant) and value.value is False)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(ast.parse(path.read_bytes()))}


def _named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=_named)
def test_a_package_imports_only_packages_below_it(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]

    assert _roots(path) & set(PACKAGES) <= KNOWS[package]


@pytest.mark.parametrize("path", SOURCES, ids=_named)
def test_a_library_is_imported_only_where_it_belongs(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    roots = _roots(path)
    elsewhere = [library for library in roots & ONLY_IN.keys() if not _named(path).startswith(ONLY_IN[library])]

    assert not roots & NEVER[package]
    assert elsewhere == []


@pytest.mark.parametrize("path", [*SOURCES, *SCRIPTS], ids=_named)
def test_nothing_that_comes_with_data_is_run(path: Path) -> None:
    assert list(unsafe(ast.parse(path.read_bytes()))) == []


def test_every_package_is_read_and_typed() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(PACKAGES)
    assert [package for package in PACKAGES if not (ROOT / package / "py.typed").is_file()] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch.nn as nn", {"torch.nn"}),
        ("def f():\n    from torch import nn", {"torch.nn"}),
        ("if TYPE_CHECKING:\n    import torch", {"torch"}),
        ("importlib.import_module('torch')", {"torch"}),
        ("from . import sibling", set()),
    ],
)
def test_imports_are_found_wherever_they_are(source: str, found: set[str]) -> None:
    assert imported(ast.parse(source)) == found


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from torch import load", "torch.load(f)", "eval(text)", "np.load(f, allow_pickle=True)"],
)
def test_unsafe_code_is_found(source: str) -> None:
    assert list(unsafe(ast.parse(source))) != []


@pytest.mark.parametrize("source", ["model.eval()", "json.load(f)", "np.load(f, allow_pickle=False)"])
def test_harmless_code_is_not_accused(source: str) -> None:
    assert list(unsafe(ast.parse(source))) == []
