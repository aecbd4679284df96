"""Public functions of two and more arguments say what each is."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "cytolite"


def functions(path):
    """Yield (name, arguments, docstring) of the public functions and methods of a module."""

    def walk(body, owner=""):
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from walk(node.body, f"{node.name}.")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                decorators = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
                # A verb's options have their help beside them; a kernel is compiled, and called by its own module.
                if ".command" not in decorators and "kernel" not in decorators:
                    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                    names = [argument.arg for argument in given if argument.arg not in ("self", "cls")]
                    names += [extra.arg for extra in (node.args.vararg, node.args.kwarg) if extra]
                    yield f"{path.relative_to(SOURCE)}: {owner}{node.name}", names, ast.get_docstring(node) or ""

    yield from walk(ast.parse(path.read_text(encoding="utf-8")).body)


@pytest.fixture(scope="module")
def found():
    return [function for path in sorted(SOURCE.rglob("*.py")) for function in functions(path)]


def sections(text):
    """Return the names that a Parameters section describes."""
    lines = text.split("Parameters\n----------\n")[1].split("\n\n")
    block = []
    for part in lines:
        if any(set(line) == {"-"} for line in part.splitlines()[1:2]):
            break
        block += part.splitlines()
    heads = [line.split(" : ")[0] for line in block if " : " in line and not line.startswith(" ")]
    return [name.strip(" *") for head in heads for name in head.split(",")]


def test_every_function_describes_its_parameters(found):
    lacking = [name for name, arguments, text in found if len(arguments) > 1 and "Parameters\n----------" not in text]
    assert lacking == [], "describe the arguments of new public functions in a Parameters section"


def test_what_is_described_is_an_argument(found):
    wrong = {}
    for name, arguments, text in found:
        if "Parameters\n----------" in text:
            unknown = set(sections(text)) - set(arguments)
            if unknown:
                wrong[name] = unknown
    assert wrong == {}
