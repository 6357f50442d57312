"""Checks of the house style; each takes a folder and returns one line per departure."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from architecture.import_checks import python_files

FILE_LIMIT = 600
FUNCTION_LIMIT = 60
SKIPPING = {"skip", "skipif", "xfail", "importorskip", "SkipTest", "skipTest"}
BROAD = {"Exception", "BaseException"}


def long_parts(folder: Path) -> list[str]:
    """Files of more than 600 lines and functions of more than 60."""
    found = []
    for path, tree in python_files(folder):
        lines = (folder / path).read_text(encoding="utf-8").count("\n")
        if lines > FILE_LIMIT:
            found.append(f"{path}: {lines} lines")
        for node in _functions(tree):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > FUNCTION_LIMIT:
                found.append(f"{path}:{node.lineno}: {node.name} has {size} lines")
    return found


def prints(folder: Path) -> list[str]:
    """Calls of print."""
    return [
        f"{path}:{node.lineno}: print"
        for path, tree in python_files(folder)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def broad_excepts(folder: Path, borders: Mapping[str, str]) -> list[str]:
    """`except Exception`, bare `except` and `suppress(Exception)` in files that are no listed recording border."""
    found = []
    for path, tree in python_files(folder):
        for node in ast.walk(tree):
            if _is_broad(node) and str(path) not in borders:
                found.append(f"{path}:{node.lineno}: catches everything")  # type: ignore[attr-defined]
    return found


def swallowed_errors(folder: Path) -> list[str]:
    """Handlers that do nothing at all with what they caught."""
    return [
        f"{path}:{node.lineno}: swallows an error"
        for path, tree in python_files(folder)
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and all(_does_nothing(statement) for statement in node.body)
    ]


def skipped_tests(folder: Path, reasons: Mapping[str, str]) -> list[str]:
    """Any skip or expected failure in a file without a listed reason."""
    found = []
    for path, tree in python_files(folder):
        for node in ast.walk(tree):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if name in SKIPPING and str(path) not in reasons:
                found.append(f"{path}:{node.lineno}: {name}")  # type: ignore[attr-defined]
    return found


def empty_tests(folder: Path) -> list[str]:
    """Tests that assert nothing, and asserts that can never fail."""
    found = []
    for path, tree in python_files(folder):
        for node in ast.walk(tree):
            if isinstance(node, ast.Assert) and _is_constant(node.test):
                found.append(f"{path}:{node.lineno}: asserts a constant")
        for function in _functions(tree):
            if function.name.startswith("test") and not any(_asserts(node) for node in ast.walk(function)):
                found.append(f"{path}:{function.lineno}: {function.name} asserts nothing")
    return found


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _is_broad(node: ast.AST) -> bool:
    if isinstance(node, ast.ExceptHandler):
        return node.type is None or _names_broad(node.type)
    suppresses = isinstance(node, ast.Call) and _last_name(node.func) == "suppress"
    return suppresses and any(_names_broad(argument) for argument in node.args)  # type: ignore[attr-defined]


def _names_broad(caught: ast.expr) -> bool:
    types = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(_last_name(kind) in BROAD for kind in types)


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _does_nothing(statement: ast.stmt) -> bool:
    words = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return words or isinstance(statement, ast.Pass | ast.Continue)


def _is_constant(test: ast.expr) -> bool:
    """True for a literal, a tuple or f-string with content, and a comparison of something with itself.

    Two equal calls are no constant: that they agree is a claim.
    """
    if isinstance(test, ast.Compare):
        calls = any(isinstance(node, ast.Call) for node in ast.walk(test))
        return not calls and all(ast.dump(test.left) == ast.dump(other) for other in test.comparators)
    return isinstance(test, ast.Constant | ast.JoinedStr) or (isinstance(test, ast.Tuple) and bool(test.elts))


def _asserts(node: ast.AST) -> bool:
    """True for assert, for raises or warns, and for a call of an `assert_...` or `check_...` function."""
    if not isinstance(node, ast.Call):
        return isinstance(node, ast.Assert)
    name = _last_name(node.func)
    return name in {"raises", "warns"} or name.startswith(("assert_", "check_"))
