"""The shape of the project: packages, import direction, lazy torch, the wheel, what the type checker sees."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# Where each package lies. The links attngraph/grammar and attngraph/compiler point at the last two.
FOLDERS = {
    "attngraph": ROOT / "attngraph",
    "attngraph.compiler": ROOT / "compiler",
    "attngraph.grammar": ROOT / "grammar",
}

# Each layer may import itself and the layers above it in this list, never one below.
COMPILER_LAYERS = (
    (
        "definitions", "errors", "formula", "graph", "ops", "pyast", "regions", "render", "report", "scan", "sizes",
        "structure", "types",
    ),
    (
        "blocks", "elaborate", "facts", "initial", "inline", "levels", "library", "lints", "notices", "rewrite",
        "rules", "scalars", "scope", "separation", "softmaxes",
    ),
    (
        "again", "associative", "assumed", "facts.state", "growing", "lowerings", "nearby", "normal", "order",
        "recurrence", "unparse",
    ),
    ("emit", "example", "loader", "module", "plan", "simplify", "targets"),
    ("claims", "dense", "equivalence", "forms", "pipeline", "properties"),
)  # fmt: skip

# What a package may import from outside, besides the standard library.
THIRD_PARTY = {
    "attngraph.grammar": {"lark"},
    "attngraph.compiler": {"fla", "networkx", "onnxruntime", "onnxscript", "sympy", "torch"},
    "attngraph": {"torch"},
}


def source_files(package: str) -> list[Path]:
    """The Python files of one of the three folders, without following the links."""
    folder = FOLDERS[package]
    links = {folder / "grammar", folder / "compiler"} if package == "attngraph" else set()
    return sorted(p for p in folder.rglob("*.py") if "__pycache__" not in p.parts and not links & set(p.parents))


def module_name(package: str, path: Path) -> str:
    parts = path.relative_to(FOLDERS[package]).with_suffix("").parts
    return ".".join((package, *(part for part in parts if part != "__init__")))


MODULES = {module_name(package, path): path for package in FOLDERS for path in source_files(package)}


def imports(module: str) -> Iterator[tuple[str, int, int]]:
    """(absolute name, level of the relative import, line) of every import of a module, lazy ones included."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, 0, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            origin = (f"{base}.{node.module}" if node.module else base) if node.level else (node.module or "")
            for alias in node.names:
                name = f"{origin}.{alias.name}"
                yield (name if name in MODULES else origin), node.level, node.lineno


def owner(module: str) -> str:
    """The one of the three folders that a module of attngraph belongs to."""
    return next(package for package in sorted(FOLDERS, key=len, reverse=True) if f"{module}.".startswith(f"{package}."))


def layer(module: str) -> int:
    path = module.split(".")[2:]
    unit = next((u for u in (".".join(path), path[0]) if any(u in units for units in COMPILER_LAYERS)), path[0])
    found = [number for number, units in enumerate(COMPILER_LAYERS) if unit in units]
    assert found, f"compiler/{unit} has no place in COMPILER_LAYERS: decide what it may import"
    return found[0]


def run(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
    )


def test_every_package_is_listed() -> None:
    folders = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    assert sorted(folders) == PROJECT["tool"]["setuptools"]["packages"]


def test_every_folder_of_modules_is_a_package() -> None:
    bare = {path.parent for path in MODULES.values() if not (path.parent / "__init__.py").exists()}
    assert not bare


@pytest.mark.parametrize("name", ["grammar", "compiler"])
def test_mapped_folder_is_linked_and_guarded(name: str) -> None:
    assert os.readlink(ROOT / "attngraph" / name) == f"../{name}"
    result = run(sys.executable, "-c", f"import {name}")
    assert f"import this package as attngraph.{name}" in result.stderr


@pytest.mark.parametrize("module", MODULES)
def test_import_direction(module: str) -> None:
    below = {
        "attngraph.grammar": {"attngraph.grammar"},
        "attngraph.compiler": {"attngraph.grammar", "attngraph.compiler"},
        "attngraph": set(FOLDERS),
    }
    home = owner(module)
    for name, level, line in imports(module):
        place = f"{MODULES[module]}:{line}"
        if name.split(".")[0] != "attngraph":
            known = name.split(".")[0] in sys.stdlib_module_names | THIRD_PARTY[home]
            assert known, f"{place}: {home} may not import {name}"
            continue
        assert owner(name) in below[home], f"{place}: {home} may not import {name}"
        assert level or home == "attngraph", f"{place}: inside {home} imports are relative"
        if home == owner(name) == "attngraph.compiler" and module != home != name:
            assert layer(name) <= layer(module), f"{place}: {module} may not import {name}, a later layer"


def test_sympy_is_for_showing() -> None:
    """Polynomials are computed with by our own class; sympy's expressions are what a report hands out."""
    users = {module for module in MODULES for name, _, _ in imports(module) if name.split(".")[0] == "sympy"}
    assert users <= {"attngraph.compiler.sizes", "attngraph.compiler.report"}


def test_import_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'sympy', 'networkx', 'numpy', 'matplotlib', 'transformers'}"
    result = run(sys.executable, "-c", f"import attngraph, attngraph.cli, sys; print({heavy} & set(sys.modules))")
    assert (result.stdout, result.stderr) == ("set()\n", "")


def test_type_checker_looks_into_both_folders(tmp_path: Path) -> None:
    """A planted error is found in each mapped folder, once, under its attngraph name."""
    (tmp_path / "attngraph").mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "attngraph/__init__.py").write_text('"""A probe."""\n', encoding="utf-8")
    for name in ("grammar", "compiler"):
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / name / "__init__.py", tmp_path / name)
        (tmp_path / name / "planted.py").write_text('VALUE: int = "text"\n', encoding="utf-8")
        shutil.copy(ROOT / "attngraph" / name, tmp_path / "attngraph" / name, follow_symlinks=False)
    result = run(sys.executable, "-m", "mypy", "--no-incremental", ".", cwd=tmp_path)
    found = re.findall(r"^(\S+):1: error: Incompatible types", result.stdout, re.MULTILINE)
    assert sorted(found) == ["attngraph/compiler/planted.py", "attngraph/grammar/planted.py"], result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that no build folder is left in the tree."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("attngraph", "grammar", "compiler"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
    result = run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(target), str(source))
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = target.glob("*.whl")
    return built


def test_wheel_is_complete(wheel: Path) -> None:
    expected = {
        "/".join((*package.split("."), *path.relative_to(FOLDERS[package]).parts))
        for package in FOLDERS
        for path in source_files(package)
    }
    expected |= {f"attngraph/codes/{path.name}" for path in (ROOT / "attngraph/codes").glob("*.md")}
    expected |= {f"attngraph/grammar/{path.name}" for path in (ROOT / "grammar").glob("*.lark")}
    expected |= {"attngraph/py.typed"}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected
    assert any(name.endswith(".lark") for name in names)


def test_wheel_imports_away_from_the_tree(wheel: Path, tmp_path: Path) -> None:
    """Every module of the wheel imports from a clean folder, and reads its data there."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    modules = sorted(module for module in MODULES if not module.endswith("__main__"))
    code = (
        "import importlib, importlib.resources, pathlib, sys\n"
        f"for name in {modules!r}:\n"
        "    path = pathlib.Path(importlib.import_module(name).__file__)\n"
        "    assert path.is_relative_to(sys.argv[1]), path\n"
        "assert importlib.resources.files('attngraph.grammar').joinpath('attngraph.lark').is_file()\n"
    )
    result = run(sys.executable, "-c", code, str(tmp_path), cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr


def test_pins_are_exact_and_cover_the_dependencies() -> None:
    """Every package of pyproject.toml is pinned to one version, so that two installs are the same."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    names = {pin.split("==")[0].lower() for pin in pins}
    project = PROJECT["project"]
    wanted = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    assert {re.split(r"[\[<>=]", line)[0].lower() for line in wanted} - {"attngraph"} <= names


def test_hook_and_action_run_the_checker() -> None:
    """The pre-commit hook and the GitHub action call a script that the package installs, on formula files."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert hook["entry"].split()[0] in PROJECT["project"]["scripts"]
    assert re.search(hook["files"], "examples/linear.attn")
    assert not re.search(hook["files"], "examples/linear.py")
    assert any("attngraph check --format github" in step.get("run", "") for step in action["runs"]["steps"])
