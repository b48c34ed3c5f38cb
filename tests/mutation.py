"""Do the tests notice? Each gradient is broken in every way that one slip of the pen can, and a test must fail each time.

    python -m tests.mutation              all of it, in minutes; ends with 1 if a mutant survives
    python -m tests.mutation softmax      only functions whose name holds "softmax"

A mutant is one function with one change to its syntax tree, e.g. `y * (dy - s)` → `y * (dy + s)`. It is put in place in
a forked child, which runs the tests in process, the likeliest first, until one fails. docs/proof.md tells more.
"""
import ast
import inspect
import multiprocessing
import os
import signal
import sys
import textwrap
import time
import warnings
from collections import Counter
from functools import partial
from importlib import import_module
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")          # two processes, not two times two threads
os.environ["HYPOTHESIS_PROFILE"] = "mutation"

import numpy as np                                           # noqa: E402  (after the environment)

import tests.conftest                                        # noqa: E402, F401  (loads the profile)
import tinygrad_lm                                           # noqa: E402

PACKAGE = Path(tinygrad_lm.__file__).parent
SECONDS = 60                                                 # a mutant that runs longer hangs, which is noticed, too

# Which functions: all that ops/ has for going backward, where gradients meet, and where they move parameters.
ENGINE = ("tensor.unbroadcast", "tensor._receive", "tensor._backpropagate", "tensor._from_the_root")
OPTIM = ("optim.SGD.update", "optim.AdamW.update", "optim.Optimizer.step", "optim.Optimizer._blocks",
         "optim.Optimizer._runs", "optim.Optimizer.clip_grad_norm_", "optim.clip_grad_norm_", "optim.clip_scale",
         "optim.warmup_cosine")

# Not what only kernels use: their launch code, and what is held to them on the emulator (a second or more a try). Mistakes in
# kernels are planted one by one in tests/test_kernels_*.py and tests/test_emulator.py. Nor what only goes forward: weights in
# few bits, which tests/test_quantised.py holds to their bounds.
KERNELS = ("rows.", "attention_kernels.", "_kernel", "_launch", "row_threads", "norm._flag", "softmax.masked_softmax",
           "softmax._rows_of_mask", "softmax.is_last", "softmax._backward", "shape.move", "quantise.")

# Which tests first: the files that are about a module of ops/, then all others.
FILES = dict(activation="elementwise", erf="elementwise", embedding="index", softmax="fused", cross_entropy="fused",
             norm="fused", dropout="fused", tensor="engine", optim="nn_optim")
SUITE = ("test_ops_elementwise", "test_ops_reduce", "test_ops_shape", "test_ops_index", "test_ops_matmul", "test_ops_fused",
         "test_ops_attention", "test_ops_block", "test_engine", "test_nn_optim", "test_errors")

DEVICE = "the way of CuPy's arrays, which tests/test_device.py and tests/test_kernels_*.py hold"

# Mutants that compute the same: (function, change): reason. An entry that matches no mutant is an error.
EQUIVALENT = {
    ("softmax.softmax_or_zero", "0  →  1  (2)"): "−∞ less anything is −∞",
    ("softmax.softmax_or_zero", "1  →  2"): "zero divided by anything is zero",
    ("causal_attention.tiles", "1  →  2"): "how many sequences a tile has changes the speed alone",
    ("causal_attention.tiles", "n_head * (end - t) * end  →  n_head * (end - t)"): "likewise",
    ("causal_attention.tiles", "n_head * (end - t) * end  →  end"): "likewise",
    ("causal_attention.tiles", "n_head * (end - t)  →  n_head"): "likewise",
    ("causal_attention.tiles", "n_head * (end - t)  →  end - t"): "likewise",
    ("causal_attention.tiles", "end - t  →  end + t"): "likewise",
    ("causal_attention.tiles", "end - t  →  end"): "likewise",
    ("cross_entropy.cross_entropy_backward", "2  →  3"):
        DEVICE,
    ("dropout.dropout_backward", "2  →  3"):
        DEVICE,
    ("dropout.dropout_backward", "return (dropout_kernel(dy, *saved),)  →  return (None if (_it := dropout_kernel(dy, *saved)) is None "):
        DEVICE,
    ("dropout.dropout_backward", "return (dropout_kernel(dy, *saved),)  →  return (None if (_it := dropout_kernel(dy, *saved)) is None   (2)"):
        DEVICE,
    ("dropout.dropout_backward", "return (dropout_kernel(dy, *saved),)  →  return (None if (_it := dropout_kernel(dy, *saved)) is None   (3)"):
        DEVICE,
    ("dropout.dropout_backward", "return (dropout_kernel(dy, *saved),)  →  return (None if (_it := dropout_kernel(dy, *saved)) is None   (4)"):
        DEVICE,
    ("embedding.embedding_backward", "return (embedding_kernel_backward(dy, V, idx),)  →  return (None if (_it := embedding_kernel_backward(dy, V, idx  (2)"):
        DEVICE,
    ("embedding.embedding_backward", "return (embedding_kernel_backward(dy, V, idx),)  →  return (None if (_it := embedding_kernel_backward(dy, V, idx"):
        DEVICE,
    ("embedding.embedding_backward", "return (embedding_kernel_backward(dy, V, idx),)  →  return (None if (_it := embedding_kernel_backward(dy, V, idx  (4)"):
        DEVICE,
    ("embedding.embedding_backward", "return (embedding_kernel_backward(dy, V, idx),)  →  return (None if (_it := embedding_kernel_backward(dy, V, idx  (3)"):
        DEVICE,
    ("reduce.row_dots", "xp.vecdot(a, b) if hasattr(xp, 'vecdot') else xp.einsum('...  →  xp.vecdot(a, b) if not hasattr(xp, 'vecdot') else xp.einsum("):
        "both ways give the same: CuPy has one of them",
    ("causal_attention.products", "xp.empty((S, b, H, t), q.dtype).transpose(1, 2, 3, 0) if key  →  "
     "xp.empty((S, b, H, t), q.dtype).transpose(1, 2, 3, 0) if not"): "how it lies in memory changes the speed alone",
    ("causal_attention.masked_scores", "'F' if keys_first else 'C'  →  'F' if not keys_first else 'C'"): "likewise",
    ("causal_attention.future", "xp.triu(all_hidden, 1) if order == 'C' else xp.tril(all_hidd  →  xp.triu(all_hidden, 1) if not "
     "order == 'C' else xp.tril(all_"): "likewise",
    ("causal_attention.future", "order == 'C'  →  order != 'C'"): "likewise",
    ("elementwise.clip_backward", "inside &= x >= low  →  inside = x >= low"): "all are inside so far",
    ("embedding.embedding_backward", "V * N  →  N"): "both ways give the same: one is faster",
    ("erf.erf", "6  →  7"): "erf is 1 to the last bit beyond 6",
    ("erf.erf", "0.46875  →  1.46875"): "what lies beyond is not taken from this branch",
    ("erf.erf", "z <= 0.46875  →  z < 0.46875"): "both approximations hold at the seam",
    ("matmul.matmul_backward", "1  →  2"): "a matrix as a stack of one goes the batched way, to the same result",
    ("matmul.matmul_backward", "-1  →  0"): "the product of two vectors has no axes: first and last place are one",
    ("matmul.matmul_backward", "2  →  3  (2)"): "the way without the shortcut, to the same result",
    ("shape.permute_backward", "0  →  1"): "every element is overwritten",
    ("shape.concat_backward", "len(sizes) - 1  →  len(sizes) + 1"): "a further, empty piece that no input takes",
    ("shape.concat_backward", "len(sizes) - 1  →  len(sizes)"): "likewise",
    ("tensor._backpropagate", "owned.add(t)  →  pass"): "each sum is a new array: slower, the same",
}


# ---- mutants --------------------------------------------------------------------------------------------------------

OPPOSITE = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt,
            ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
            ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And}


def expression(text, **parts):
    """The syntax tree of `text`, with names in it replaced by the trees `parts`."""
    class Fill(ast.NodeTransformer):
        def visit_Name(self, node):
            return parts.get(node.id, node)
    return Fill().visit(ast.parse(text, mode="eval").body)


def changes(node):
    """Every tree that may stand in place of `node`."""
    match node:
        case ast.BinOp(left, op, right):
            if type(op) in OPPOSITE:
                yield ast.BinOp(left, OPPOSITE[type(op)](), right)               # a + b → a − b
            if not isinstance(op, (ast.MatMult, ast.Mod, ast.FloorDiv)):
                yield left                                                       # a · b → a
                yield expression("-x", x=right) if isinstance(op, ast.Sub) else right
        case ast.UnaryOp(ast.USub(), ast.Constant()):
            yield ast.Constant(0)                                                # the last axis → the first
        case ast.UnaryOp(ast.USub() | ast.Invert() | ast.Not(), operand):
            yield operand                                                        # −a → a
        case ast.Compare(left, [op], [right]) if type(op) in OPPOSITE:
            yield ast.Compare(left, [OPPOSITE[type(op)]()], [right])             # a < b → a ≤ b
        case ast.BoolOp(op, values):
            yield ast.BoolOp(OPPOSITE[type(op)](), values)
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(expression("not (x)", x=test), body, orelse)
        case ast.If(test, body, orelse):
            yield ast.If(expression("not (x)", x=test), body, orelse)
        case ast.AugAssign(target, op, value):
            yield ast.Pass()                                                     # a += b →
            yield ast.Assign([target], value)                                    # a += b → a = b
            if type(op) in OPPOSITE:
                yield ast.AugAssign(target, OPPOSITE[type(op)](), value)
        case ast.Expr() | ast.Continue() | ast.Assign([ast.Subscript() | ast.Attribute()], _):
            yield ast.Pass()                                                     # forget it
        case ast.Attribute(value, "T"):
            yield value                                                          # forget to transpose
        case ast.Call(ast.Attribute(value, "swapaxes" | "transpose"), _):
            yield value
        case ast.Call(ast.Attribute(_, "flip" | "exp" | "sqrt" | "log" | "sign" | "cumsum"), [value, *_]):
            yield value
        case ast.Call(ast.Attribute(_, "sin") as f, args):
            yield ast.Call(ast.Attribute(f.value, "cos"), args, [])
        case ast.Call(ast.Attribute(_, "cos") as f, args):
            yield ast.Call(ast.Attribute(f.value, "sin"), args, [])
        case ast.Call(ast.Attribute(_, "where") | ast.Name("where"), [test, a, b]):
            yield ast.Call(node.func, [test, b, a], [])                          # the mask the other way round
            yield a                                                              # forget it
            yield b
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Return(ast.Tuple(gradients)):
            yield from (ast.Return(t) for t in wrong_gradients(gradients))
        case ast.Return(ast.Subscript(ast.Tuple(gradients), part)):
            yield from (ast.Return(ast.Subscript(t, part)) for t in wrong_gradients(gradients))


def wrong_gradients(gradients):
    """One scaled, zero or negated, where it is not None; two in each other's place."""
    for i, g in enumerate(gradients):
        for factor in ("2 *", "0.5 *", "0 *", "-") * (not isinstance(g, ast.Constant)):
            scaled = expression(f"None if (_it := _g) is None else {factor} _it", _g=g)
            yield ast.Tuple([*gradients[:i], scaled, *gradients[i + 1:]])
        for j in range(i):
            swapped = list(gradients)
            swapped[i], swapped[j] = swapped[j], swapped[i]
            yield ast.Tuple(swapped)


def own_nodes(function):
    """The nodes of a function's body, outermost first; no docstrings, no error messages, no hints to NumPy."""
    todo, found = function.body[ast.get_docstring(function) is not None:], []
    while todo:
        node = todo.pop(0)
        match node:
            case ast.Raise() | ast.JoinedStr() | ast.keyword("copy" | "optimize" | "dtype"):
                pass
            case ast.UnaryOp(ast.USub(), ast.Constant()):
                found.append(node)
            case _:
                found.append(node)
                todo[:0] = ast.iter_child_nodes(node)
    return found


def mutants(f):
    """(change, code object) for every change to every node of a function."""
    source, seen = textwrap.dedent(inspect.getsource(f)), Counter()
    for i, node in enumerate(own_nodes(parse(source))):
        for k in range(len(list(changes(node)))):
            function = parse(source)                         # a fresh tree, of which one node is exchanged
            node = own_nodes(function)[i]
            before = ast.unparse(node)
            new = ast.fix_missing_locations(list(changes(node))[k])
            if ast.unparse(new) == before:
                continue
            for parent in ast.walk(function):
                for field, value in ast.iter_fields(parent):
                    if value is node:
                        setattr(parent, field, new)
                    elif isinstance(value, list):
                        value[:] = [new if v is node else v for v in value]
            namespace = dict(f.__globals__)
            exec(ast.unparse(ast.fix_missing_locations(function)), namespace)
            change = f"{short(before)}  →  {short(ast.unparse(new))}"
            seen[change] += 1
            yield change + (f"  ({seen[change]})" if seen[change] > 1 else ""), inspect.unwrap(namespace[function.name]).__code__


def parse(source):
    return ast.parse(source).body[0]


def short(text):
    return " ".join(text.split())[:60] or "nothing"


def targets():
    """{"norm.layer_norm_backward": function}: what is mutated."""
    found = {}
    for path in sorted((PACKAGE / "ops").glob("[!_]*.py")):
        module = import_module(f"tinygrad_lm.ops.{path.stem}")
        for name, f in vars(module).items():
            f = inspect.unwrap(f) if callable(f) else f      # lru_cache hides the function
            if inspect.isfunction(f) and f.__module__ == module.__name__ and not name.endswith("_forward") \
                    and not any(part in f"{path.stem}.{name}" for part in KERNELS):
                found[f"{path.stem}.{name}"] = f
    for dotted in ENGINE + OPTIM:
        module, *names = dotted.split(".")
        found[dotted] = import_module(f"tinygrad_lm.{module}")
        for name in names:
            found[dotted] = getattr(found[dotted], name)
    return found


# ---- trying them ----------------------------------------------------------------------------------------------------

def suite(target):
    """(name, test), the likeliest to notice first: those of the same name, then the same file, then the rest. What is
    in ops/ must fall to the tests of operations alone."""
    module, *_, function = target.split(".")
    words = set(function.removesuffix("_backward").strip("_").split("_"))
    near = f"test_ops_{FILES.get(module, module)}", f"test_{FILES.get(module, module)}"
    files = SUITE if module in ("tensor", "optim") else [file for file in SUITE if file.startswith("test_ops")]
    tests = [(file, name, test) for file in files for name, test in tests_in(import_module(f"tests.{file}"))]
    tests.sort(key=lambda t: (t[0] not in near, not words & set(t[1].split("_"))))
    return [(f"{file}::{name}", test) for file, name, test in tests]


def tests_in(module):
    """Its test functions, once for each set of parameters."""
    for name, test in vars(module).items():
        if name.startswith("test_"):
            marks = [m for m in getattr(test, "pytestmark", []) if m.name == "parametrize"]
            names = [n.strip() for n in marks[0].args[0].split(",")] if marks else []
            for values in marks[0].args[1] if marks else [()]:
                yield name, partial(test, **dict(zip(names, values if len(names) != 1 else [values])))


def noticed(target, code=None):
    """The name of the first test that fails with `code` in the place of `target`'s own; None if all pass."""
    def hang(*_):
        raise TimeoutError

    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    signal.signal(signal.SIGALRM, hang)
    signal.alarm(SECONDS)
    if code is not None:
        targets()[target].__code__ = code
    for name, test in suite(target):
        try:
            test()
        except TimeoutError:
            return "it hangs"
        except BaseException:
            return name
    return None


def job(number):
    target, change, code = MUTANTS[number]
    return number, noticed(target, code)


def run(wanted="", processes=2):
    """Try all mutants of the functions whose name holds `wanted`; prints a table and returns (noticed, all)."""
    start = time.time()
    MUTANTS[:] = [(target, change, code) for target, f in targets().items() if wanted in target
                  for change, code in mutants(f)]
    excused = {(target, change) for target, change, _ in MUTANTS} & EQUIVALENT.keys()
    MUTANTS[:] = [m for m in MUTANTS if m[:2] not in excused]
    dict(suite("erf.erf"))["test_ops_elementwise::test_exp"]()      # what Hypothesis prepares once, before the forks
    total, caught = Counter(m[0] for m in MUTANTS), Counter()
    survivors = []
    with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=1) as pool:
        for number, by in pool.imap_unordered(job, range(len(MUTANTS)), chunksize=1):
            target, change, _ = MUTANTS[number]
            caught[target] += by is not None
            if by is None:
                survivors.append((target, change))
                print(f"SURVIVED  {target}: {change}", flush=True)
    print(f"\n{'function':44} mutants noticed")
    for target, n in total.items():
        print(f"{target:44} {n:7} {caught[target]:7}")
    print(f"{'all':44} {total.total():7} {caught.total():7}   {caught.total() / max(total.total(), 1):.1%} in "
          f"{time.time() - start:.0f} s; {len(excused)} equivalent ones left out")
    stale = [] if wanted else sorted(EQUIVALENT.keys() - excused)
    for target, change in stale:
        print(f"NO SUCH MUTANT  {target}: {change}: take it out of EQUIVALENT")
    return not survivors and not stale


MUTANTS = []

if __name__ == "__main__":
    sys.exit(not run(*sys.argv[1:2]))
