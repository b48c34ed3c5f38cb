"""The house stands as designed: imports flow downwards, `import tinygrad_lm` is light, sources are explained and cited."""
import ast
import io
import re
import subprocess
import sys
import tokenize
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tinygrad_lm"
FLOORS = {"backend": 0, "ops": 0, "kernels": 0, "emulator": 0,
          "modes": 1, "tensor": 1, "recompute": 1, "functional": 1, "gradcheck": 1,
          "nn": 2, "graph": 2, "optim": 2, "mpi": 2, "parallel": 2, "checkpoint": 2,
          "text": 3, "models": 3, "decode": 3, "generate": 3,
          "train": 4, "bench": 4, "museum": 4, "exercises": 4, "serve": 4,
          "cli": 5, "__main__": 6, "__init__": 6}


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(p): p for p in sorted(PACKAGE.rglob("*.py"))}
every_module = pytest.mark.parametrize("name", MODULES)


def tree(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def floor(name):
    first = name.split(".")[0]
    assert first in FLOORS, f"{first} stands on no floor: give it one in {Path(__file__).name}"
    return FLOORS[first]


def imports(name):
    """(outside, inside): top-level packages of others, and modules of this package, wherever in the file they are named."""
    outside, inside = set(), set()
    here = name.split(".") if MODULES[name].name == "__init__.py" and name != "__init__" else name.split(".")[:-1]
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            outside |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            outside.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = here[:len(here) - node.level + 1] + (node.module.split(".") if node.module else [])
            below = {".".join([*base, a.name]) for a in node.names}
            inside |= below & MODULES.keys() or {".".join(base) or "__init__"}
    return outside, inside


@every_module
def test_imports_flow_downwards(name):
    upwards = {other for other in imports(name)[1] if floor(other) > floor(name)}
    assert not upwards, f"{name} (floor {floor(name)}) imports from above: {sorted(upwards)}"


def test_no_circles():
    TopologicalSorter({name: imports(name)[1] for name in MODULES}).prepare()          # raises CycleError, naming it


@every_module
def test_imports_by_name_are_relative(name):
    assert "tinygrad_lm" not in imports(name)[0], "inside the package imports are relative"


@every_module
def test_no_big_framework(name):
    if name == "bench.beside_torch":                                     # the other side of a comparison, in its own process
        assert not any("bench.beside_torch" in imports(other)[1] for other in MODULES)
        return
    assert not imports(name)[0] & {"torch", "transformers", "jax", "tensorflow", "tiktoken", "tokenizers", "scipy"}


@every_module
def test_every_module_starts_with_what_it_is(name):
    assert ast.get_docstring(tree(name)), f"{name} has no docstring"


def test_the_engine_stays_short():
    assert len(MODULES["tensor"].read_text(encoding="utf-8").splitlines()) <= 250


def test_import_loads_numpy_and_little_else():
    heavy = {"matplotlib", "rich", "click", "safetensors", "scipy", "cupy", "torch", "mpi4py"}
    code = f"import sys, tinygrad_lm; print({heavy} & sys.modules.keys(), 'numpy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out.split() == ["set()", "True"]


def test_help_is_quick_for_it_loads_nothing_that_draws_or_stores():
    heavy = {"matplotlib", "rich", "safetensors", "threadpoolctl", "mpi4py"}
    code = f"import sys, atexit; atexit.register(lambda: print({heavy} & sys.modules.keys())); sys.argv[1:] = ['--help']\n" \
           "from tinygrad_lm.cli import main; main()"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "pretrain" in out and out.splitlines()[-1] == "set()"


# ---- papers ---------------------------------------------------------------------------------------------------------

KEY = re.compile(r"\[([A-Z][A-Z0-9]+)\](?!\()")


def prose(name):
    """Docstrings and comments."""
    t = tree(name)
    for node in ast.walk(t):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield ast.get_docstring(node) or ""
    for token in tokenize.generate_tokens(io.StringIO(MODULES[name].read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def cited():
    texts = {name: "\n".join(prose(name)) for name in MODULES}
    book = [p for folder in ("docs", "examples") for p in sorted((ROOT / folder).rglob("*"))
            if p.suffix in {".md", ".py", ".cu"}]
    texts |= {str(p.relative_to(ROOT)): p.read_text(encoding="utf-8")
              for p in [*book, *PACKAGE.rglob("*.cu")] if p.name != "references.md"}
    for where in texts:
        if where.endswith(".cu"):                                        # scratch[N] in the code is no paper
            texts[where] = "\n".join(re.findall("//(.*)", texts[where]))
    return {(key, where) for where, text in texts.items() for key in KEY.findall(text)}


def listed():
    return re.findall(r"^- \*\*\[([A-Z0-9]+)\]\*\* ", (ROOT / "docs/references.md").read_text(encoding="utf-8"), re.M)


def test_papers_cited_are_listed():
    unknown = sorted((key, where) for key, where in cited() if key not in listed())
    assert not unknown, f"keys that docs/references.md does not list: {unknown}"


def test_papers_listed_are_cited():
    unused = sorted(set(listed()) - {key for key, _ in cited()})
    assert not unused, f"keys in docs/references.md that nothing cites: {unused}"


def test_references_are_in_order_and_whole():
    assert listed() == sorted(set(listed()))
    for line in (ROOT / "docs/references.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("- "):
            assert re.fullmatch(r"- \*\*\[[A-Z0-9]+\]\*\* .+\. (19|20)\d\d\. \*.+[.?]\* \S.+", line), line
