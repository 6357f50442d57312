"""Checks of what a tree of Python files imports; each takes a folder and returns one line per departure.

They see what import-linter does not: imports at module level of what must come late, and modules named by a string.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

FLOORS = {
    "__main__": 10,
    "cli": 9,
    "runtime": 8,
    "rounds": 7,
    **dict.fromkeys(("pool", "diagnose", "plan", "supply", "train", "evaluate", "micro"), 6),
    "grading": 5,
    "models": 4,
    "taxonomy": 3,
    **dict.fromkeys(("ports", "seeds"), 2),
    **dict.fromkeys(("types", "config"), 1),
    "errors": 0,
}
"""Room of `dpe_ray` to its floor; an import goes down, or stays within its room."""

HOMES = {
    "ray": ("runtime",),
    "torch": ("models", "train", "runtime", "micro"),
    "vllm": ("models", "train", "runtime"),
    "deepspeed": ("models", "train", "runtime"),
}
LATE = ("vllm", "deepspeed")
"""Only inside the functions that need them: importing vllm takes 12 seconds and more."""


def python_files(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    """Every Python file below a folder with its tree, in order."""
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(folder), ast.parse(path.read_text(encoding="utf-8"))


def upward_imports(package: Path) -> list[str]:
    """Imports of a higher floor or of another room on the same one: absolute, relative, `from package import room`."""
    found = []
    for path, tree in python_files(package):
        own = _room(path)
        for node in ast.walk(tree):
            for target in _rooms(node, package.name, path):
                if target in FLOORS and target != own and FLOORS[target] >= FLOORS.get(own, -1):
                    found.append(f"{path}:{node.lineno}: {own} imports {target}")  # type: ignore[attr-defined]
    return found


def misplaced_imports(package: Path) -> list[str]:
    """Ray, torch and the engines outside their homes, or at module level where they must come late."""
    found = []
    for path, tree in python_files(package):
        for node in ast.walk(tree):
            for name in _absolute(node):
                if name in HOMES and _room(path) not in HOMES[name]:
                    found.append(f"{path}:{node.lineno}: imports {name}")  # type: ignore[attr-defined]
        for node in _module_level(tree.body):
            found += [f"{path}:{node.lineno}: imports {n} at module level" for n in _absolute(node) if n in LATE]
    return found


def dynamic_imports(package: Path) -> list[str]:
    """`import_module` and `__import__` of a name that is misplaced there, or that cannot be read from the file."""
    found = []
    for path, tree in python_files(package):
        importers = {"__import__"} | {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "importlib"
            for alias in node.names
            if alias.name == "import_module"
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _calls_importer(node.func, importers):
                first = node.args[0] if node.args else None
                name = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
                if name is None:
                    found.append(f"{path}:{node.lineno}: imports a computed name")
                elif _room(path) not in HOMES.get(name.partition(".")[0], (_room(path),)):
                    found.append(f"{path}:{node.lineno}: imports {name} by string")
    return found


def _room(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def _rooms(node: ast.AST, package: str, path: Path) -> set[str]:
    """Rooms of the package that a statement imports from."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        here = (package, *path.parts[:-1])
        base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
        module = ".".join(part for part in (base, node.module) if part)
        names = [f"{module}.{alias.name}" for alias in node.names]
    else:
        return set()
    parts = [name.split(".") for name in names]
    return {p[1] for p in parts if p[0] == package and len(p) > 1}


def _absolute(node: ast.AST) -> list[str]:
    """Top names of absolute imports."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [(node.module or "").partition(".")[0]]
    return []


def _module_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run on import, those under module-level `if`, `try`, `with` and in class bodies included."""
    for node in body:
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _module_level(n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt))
            for handler in getattr(node, "handlers", []):
                yield from _module_level(handler.body)


def _calls_importer(function: ast.expr, importers: set[str]) -> bool:
    return (isinstance(function, ast.Name) and function.id in importers) or (
        isinstance(function, ast.Attribute) and function.attr in {"import_module", "__import__"}
    )
