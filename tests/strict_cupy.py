"""A stand-in for CuPy that needs no GPU and is strict where NumPy is lenient: what slips through NumPy's habits there fails
here, as it would on a GPU.

Its arrays wrap NumPy's and let nobody at them: no implicit conversion to NumPy (`np.asarray(x)`, `host[...] = x`), no
mixing with NumPy's arrays, only functions, methods and options that CuPy has, results of reductions that are arrays and not
numbers, empty() full of NaN. Reading a value (float(x), x.item(), x.get()) is counted, since a GPU is waited for, and
refused while a stream captures: then operations are recorded, not done, and done when the graph is launched.

The tables below hold what the package uses; what it needs besides is to be entered first, and tests/test_cupy.py compares
them with the real CuPy. The stand-in is stricter in this: CuPy hands `np.exp(x)` on to its own exp, and moves a host array
that stands as an index, without a word; here neither goes, since the package says where its arrays are.
"""
import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import numpy as np

FUNCTIONS = """
    arange start stop step dtype
    argsort a axis kind
    argwhere a
    ascontiguousarray a dtype
    broadcast_to array shape
    clip a a_min a_max out
    concatenate tup axis out
    count_nonzero a axis
    copyto dst src casting where
    diff a n axis
    einsum *operands dtype optimize
    empty shape dtype order
    empty_like prototype dtype order
    expand_dims a axis
    flatnonzero a
    flip a axis
    full shape fill_value dtype order
    matmul x1 x2 out
    moveaxis a source destination
    ones shape dtype order
    ones_like a dtype order
    pad array pad_width mode constant_values
    split ary indices_or_sections axis
    stack tup axis out
    take_along_axis a indices axis
    tile A reps
    tril m k
    triu m k
    unique ar return_index return_inverse return_counts axis
    where condition x y
    zeros shape dtype order
    zeros_like a dtype order
"""
UFUNCS = "add copysign cos divide exp isfinite log log1p maximum minimum multiply sign sin sqrt subtract tanh".split()
METHODS = """
    all axis out keepdims
    any axis out keepdims
    argmax axis out dtype keepdims
    astype dtype order casting subok copy
    clip min max out
    copy order
    cumsum axis dtype out
    dot b out
    max axis out keepdims
    mean axis dtype out keepdims
    min axis out keepdims
    repeat repeats axis
    reshape *shape order
    sum axis dtype out keepdims
    swapaxes axis1 axis2
    take indices axis out
    transpose *axes
    view dtype
"""
FUNCTIONS, METHODS = ({name: parameters for name, *parameters in map(str.split, table.strip().splitlines())}
                      for table in (FUNCTIONS, METHODS))
NUMBERS = "dtype float16 float32 float64 int8 uint8 uint16 int32 int64 uint32 uint64 bool_ inf nan pi newaxis".split()


class ndarray:
    """An array of the device. `_a` is where its numbers really are: nobody but this file looks there."""
    __slots__ = ("_a", "base")
    __array_ufunc__ = None                                                # np.exp(x) raises; host + x asks x.__radd__

    def __init__(self, a, base=None):
        self._a, self.base = a, base

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion of a device array to NumPy: use .get()")

    def __array_function__(self, function, *rest):
        raise TypeError(f"numpy.{function.__name__} was given a device array: use array_module(x)")

    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)
    strides = property(lambda self: self._a.strides)
    flags = property(lambda self: SimpleNamespace(c_contiguous=self._a.flags.c_contiguous))
    T = property(lambda self: self.transpose())
    data = property(lambda self: SimpleNamespace(ptr=self._a.ctypes.data))

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        return done(np.ndarray.__getitem__, self, index)

    def __setitem__(self, index, value):
        done(np.ndarray.__setitem__, self, index, value, changes=self)

    def __repr__(self):
        return f"device array {self.shape} {self.dtype}"

    def __deepcopy__(self, memo):
        return self.copy()

    # ---- a value is read: the GPU is waited for

    def get(self):
        return read(self).copy()

    def set(self, host):
        assert type(host) is np.ndarray and host.shape == self.shape and host.dtype == self.dtype and self.flags.c_contiguous
        done(np.ndarray.__setitem__, self, ..., ndarray(host.copy()), changes=self)

    def item(self):
        return read(self).item()

    def tolist(self):
        return read(self).tolist()

    def __float__(self):
        return float(read(self))

    def __int__(self):
        return int(read(self))

    def __bool__(self):
        return bool(read(self))


def read(x):
    if current().capturing:
        raise RuntimeError("a value was read while a stream captures: cudaErrorStreamCaptureUnsupported")
    cupy.synchronisations += 1
    return x._a


def bare(value):
    """The NumPy arrays under device arrays; host arrays are refused."""
    if type(value) is ndarray:
        return value._a
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}: a host array {value.shape} where device arrays are")
    if type(value) in (list, tuple):
        return type(value)(map(bare, value))
    return value


def arrays_in(values):
    for value in values:
        if type(value) is ndarray:
            yield value
        elif type(value) in (list, tuple):
            yield from arrays_in(value)


def accepted(name, parameters, args, options):
    """Refuse arguments that CuPy's function has not: `parameters` are its own, in its order."""
    wrong = [key for key in options if key not in parameters]
    if wrong or len(args) > len(parameters) and not any(p.startswith("*") for p in parameters):
        raise TypeError(f"{name}() takes {', '.join(parameters)}, and was given {len(args)} arguments and {wrong}: CuPy has "
                        "no such option")
    if options.get("kind") not in (None, "stable"):
        raise ValueError("CuPy's argsort is stable and takes no other kind")


def on_the_device(name, first, args):
    """Refuse what NumPy makes an array of and CuPy does not: a number or a list where its function asks for an array."""
    given = args[0] if first == "tup" else args[1:] if first == "*operands" else args[:first not in ("shape", "start")]
    if not all(type(x) is ndarray for x in given):
        raise TypeError(f"{name}() of {[type(x).__name__ for x in given]}: CuPy's takes its own arrays alone")


def done(function, *args, changes=None, **options):
    """What function(*args, **options) gives, dressed again; while the stream captures, recorded instead of done."""
    changes = options["out"] if options.get("out") is not None else changes
    given = [*arrays_in(args), *arrays_in(options.values())]
    args, options, recording = bare(args), {k: bare(v) for k, v in options.items()}, current().recorded

    def work():
        with np.errstate(all="ignore"):
            return function(*args, **options)

    if changes is not None:
        work() if recording is None else recording.append(work)
        return changes
    return dressed(work(), given, work if recording is not None else None)


def dressed(result, given, again):
    """The result as device arrays. `again` makes it once more: if that is to be recorded, it is garbage until then."""
    if type(result) in (list, tuple):
        return [dressed(r, given, (lambda i=i: again()[i]) if again else None) for i, r in enumerate(result)]
    if isinstance(result, np.generic):
        result = np.array(result)                                         # CuPy's reductions give arrays
    if not isinstance(result, np.ndarray):
        return result
    for x in given:
        if x._a is result:
            return x
        if np.may_share_memory(x._a, result):
            return ndarray(result, x if x.base is None else x.base)       # a view
    if again:
        result[...] = np.nan if result.dtype.kind == "f" else 0
        current().recorded.append(lambda: np.copyto(result, again()))
    return ndarray(result)


def method(name, parameters):
    function = getattr(np.ndarray, name)

    def call(self, *args, **options):
        accepted(name, parameters, args, options)
        return done(function, self, *args, **options)

    return call


def binary(name):
    function = getattr(np.ndarray, name)
    in_place = name.startswith("__i") and name not in ("__invert__",)

    def operator(self, *other):
        if other and not isinstance(other[0], (ndarray, int, float, np.generic, np.ndarray)):
            return NotImplemented
        return done(function, self, *other, changes=self if in_place else None)

    return operator


for _name, _parameters in METHODS.items():
    setattr(ndarray, _name, method(_name, _parameters))
for _name in "add sub mul truediv floordiv mod pow matmul and or xor".split():
    for _prefix in ("__", "__r", "__i") if _name != "matmul" else ("__", "__r"):
        setattr(ndarray, f"{_prefix}{_name}__", binary(f"{_prefix}{_name}__"))
for _name in "neg abs invert eq ne lt le gt ge".split():
    setattr(ndarray, f"__{_name}__", binary(f"__{_name}__"))
ndarray.__hash__ = None


# ---- streams and graphs ---------------------------------------------------------------------------------------------

class Stream:
    """What is done while it is the current one, it does; while it captures, it records."""
    entered = []

    def __init__(self, null=False, non_blocking=False):
        self.recorded, self.null = None, null

    capturing = property(lambda self: self.recorded is not None)

    def __enter__(self):
        Stream.entered.append(self)
        return self

    def __exit__(self, *error):
        assert Stream.entered.pop() is self

    def is_capturing(self):
        return self.capturing

    def begin_capture(self, mode=None):
        if self.null or self.capturing:
            raise RuntimeError("the null stream cannot be captured" if self.null else "it captures already")
        self.recorded = []

    def end_capture(self):
        recorded, self.recorded = self.recorded, None
        return Graph(recorded)

    def synchronize(self):
        if self.capturing:
            raise RuntimeError("a capturing stream cannot be waited for")


class Graph:
    def __init__(self, work):
        self.work = work

    def launch(self, stream=None):
        cupy.launches += 1
        for work in self.work:
            work()

    def upload(self, stream=None):
        pass


def current():
    return Stream.entered[-1] if Stream.entered else NULL


NULL = Stream(null=True)


# ---- the module -----------------------------------------------------------------------------------------------------

class StrictCuPy(ModuleType):
    """The names that CuPy has; any other is an AttributeError, as there."""
    ndarray = ndarray
    synchronisations = 0                                                  # how often a value was read
    launches = 0                                                          # of graphs
    allocations = 0                                                       # how often memory was asked for
    room = 1 << 40                                                        # bytes that the pool has to give

    def __getattr__(self, name):
        if name in NUMBERS:
            return getattr(np, name)
        if name not in FUNCTIONS and name not in UFUNCS:
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        function = getattr(np, name)
        call = universal(function) if name in UFUNCS else ordinary(name, function, FUNCTIONS[name])
        setattr(self, name, call)                                         # the same object each time, as a module's is
        return call

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def asarray(x, dtype=None, order=None):
        """The way from the host to the device, which is there for host arrays, too."""
        if type(x) is ndarray:
            return x if dtype is None else x.astype(dtype, copy=False)
        if current().capturing:
            raise RuntimeError("something was copied from the host while a stream captures")
        cupy.cuda.allocate(np.asarray(x).nbytes)
        return ndarray(np.array(x, dtype=dtype, order=order or "A"))      # columns first where x is so, as CuPy has it

    def array(self, x, dtype=None, copy=True, order="K"):
        return done(np.array, x, dtype=dtype, order=order) if type(x) is ndarray else self.asarray(x, dtype)

    @staticmethod
    def asnumpy(x):
        return x.get() if type(x) is ndarray else np.asarray(x)

    @property
    def ogrid(self):
        return OGrid()

    @staticmethod
    def get_default_memory_pool():
        return Pool()


def ordinary(name, function, parameters):
    def call(*args, **options):
        accepted(name, parameters, args, options)
        on_the_device(name, parameters[0], args)
        if name == "empty":
            cupy.cuda.allocate(np.broadcast_to(np.empty((), *args[1:], **options), args[0]).nbytes)
        result = done(function, *args, changes=args[0] if name == "copyto" else None, **options)
        return poisoned(result) if name.startswith("empty") else result

    return call


def universal(function):
    def call(*args, **options):
        accepted(function.__name__, ["x", "y"][:function.nin] + ["out", "dtype", "casting"], args, options)
        return done(function, *args, **options)

    call.at = lambda target, index, values: done(function.at, target, index, values, changes=target)
    if function is np.add:
        call.reduceat = lambda array, indices, axis=0: done(np.add.reduceat, array, indices, axis)
    return call


class OGrid:
    def __getitem__(self, slices):
        return [ndarray(a) for a in np.ogrid[slices]]


def poisoned(x):
    def fill():
        x._a[...] = np.nan if x.dtype.kind == "f" else 77
    fill() if current().recorded is None else current().recorded.append(fill)
    return x


class OutOfMemoryError(MemoryError):
    pass


class Pool:
    def malloc(self, size):
        cupy.allocations += 1
        if size > cupy.room:
            raise OutOfMemoryError(size)

    def free_bytes(self):
        return 0


class Cuda:
    Stream, Graph = Stream, Graph
    MemoryPool = Pool
    memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    runtime = SimpleNamespace(memGetInfo=lambda: (cupy.room, 1 << 41))
    allocate = staticmethod(Pool().malloc)

    @staticmethod
    def Device():
        return SimpleNamespace(compute_capability="90")

    @staticmethod
    def get_current_stream():
        return current()

    def set_allocator(self, allocate):
        self.allocate = allocate

    @contextmanager
    def using_allocator(self, allocate):
        before, self.allocate = self.allocate, allocate
        try:
            yield
        finally:
            self.allocate = before


class Generator:
    """Seeded draws on the device: other numbers than NumPy's generator gives, as on a GPU."""

    def __init__(self, bits):
        self.rng = np.random.Generator(np.random.Philox(bits))

    def random(self, size, dtype=np.float64):
        if current().capturing:
            raise RuntimeError("a generator's state was set up while a stream captures")
        return ndarray(self.rng.random(size, dtype=dtype))


class RawModule:
    """Kernels run on the emulator: its arrays are NumPy's, so ours are undressed."""

    def __init__(self, *, code, options=(), name_expressions=()):
        from tinygrad_lm.emulator import RawModule
        self.module = RawModule(code=code, options=options, name_expressions=name_expressions)

    def get_function(self, name):
        return RawKernel(self.module.get_function(name))


class RawKernel:
    def __init__(self, kernel):
        self.kernel, self.max_dynamic_shared_size_bytes = kernel, kernel.max_dynamic_shared_size_bytes

    def __call__(self, grid, block, args, *, shared_mem=0):
        fits = all(0 < n < most for n, most in zip(grid, (2**31, 2**16, 2**16), strict=True)) and 0 < np.prod(block) <= 1024
        if not fits or not type(grid) is type(block) is tuple:
            raise ValueError(f"no card launches a grid of {grid} blocks of {block} threads")
        args, allowed = bare(tuple(args)), self.max_dynamic_shared_size_bytes

        def work():
            self.kernel.max_dynamic_shared_size_bytes = allowed
            self.kernel(grid, block, args, shared_mem=shared_mem)

        work() if current().recorded is None else current().recorded.append(work)


cupy = StrictCuPy("cupy")
cupy.cuda = Cuda()
cupy.random = SimpleNamespace(Generator=Generator, Philox4x3210=lambda seed: seed)
cupy.RawModule = RawModule


@contextmanager
def strict_cupy():
    """with strict_cupy() as cupy: the package finds this module where it looks for CuPy."""
    from tinygrad_lm import backend
    before = sys.modules.get("cupy")
    sys.modules["cupy"] = cupy
    backend.why_no_cuda.cache_clear()
    backend.cuda.cache_clear()
    try:
        yield cupy
    finally:
        sys.modules.pop("cupy")
        if before is not None:
            sys.modules["cupy"] = before
        backend.why_no_cuda.cache_clear()
        backend.cuda.cache_clear()
