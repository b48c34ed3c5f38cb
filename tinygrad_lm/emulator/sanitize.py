"""Kernels watched by a sanitizer: with sanitized("thread") each launch runs in a small process of its own, built so that
AddressSanitizer or ThreadSanitizer sees every access to memory; what it reports is a KernelError that names the line."""
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import numpy as np

from .. import emulator
from . import FLAGS, ORDERS, KernelError, available, compiled, in_words, place

# Bounds: an index past a row of a two-dimensional array, which stays within the array. Alignment: a float4 at an address
# that 16 does not divide, which a card refuses.
SANITIZERS = {"address": ("-fsanitize=address,bounds,alignment", "-fno-sanitize-recover=all"),
              "thread": ("-fsanitize=thread",)}
NAMES = {"address": "AddressSanitizer", "thread": "ThreadSanitizer"}
SETTINGS = {"ASAN_OPTIONS": "abort_on_error=1:handle_abort=0:detect_leaks=0:detect_stack_use_after_return=0",
            "UBSAN_OPTIONS": "abort_on_error=1:print_stacktrace=1",
            "TSAN_OPTIONS": "halt_on_error=1:history_size=7:atexit_sleep_ms=0"}
PROCESS = Path(__file__).parent / "sanitized_launch.cpp"
SECONDS = 300                                          # that a launch may take
LINES = 20                                             # of a report, in an error: those that speak of the kernel


@contextmanager
def sanitized(kind):
    """with sanitized("address") or sanitized("thread"): launches are watched.

    "address" sees what lies outside of an array, of static or of dynamic shared memory, and packs that are misaligned.
    "thread" sees two threads, of one block or of two, that come to the same place, one of them to write, with neither
    __syncthreads nor __syncwarp between them, in whatever order they took their turns; atomics may meet. A launch takes
    some tenths of a second: for small arrays. KernelError where the sanitizer reports, and where this machine has none.
    """
    if kind not in SANITIZERS:
        raise ValueError(f"a sanitizer is one of {', '.join(SANITIZERS)}, not {kind!r}")
    if why_not(kind):
        raise KernelError(why_not(kind))
    before = emulator._flags, emulator._run
    emulator._flags, emulator._run = FLAGS + SANITIZERS[kind], partial(in_its_own_process, kind)
    try:
        yield
    finally:
        emulator._flags, emulator._run = before


@cache
def why_not(kind):
    """What this machine lacks to watch kernels so, in a sentence; None if nothing."""
    if not available():
        return "there is no C++ compiler here"
    try:
        process(kind)
    except KernelError as error:
        return f"{NAMES[kind]} is not to be had here: {str(error)[:400]}"


@cache
def process(kind):
    """The command that makes one launch, built like the kernels. ThreadSanitizer wants its addresses free: where it does
    not start, it may without the randomisation of addresses (setarch -R)."""
    flags = tuple(f for f in FLAGS if f not in ("-fPIC", "-shared")) + SANITIZERS[kind]
    program = str(compiled(PROCESS.read_text(encoding="utf-8"), (), flags))
    setarch = shutil.which("setarch")
    for command in [program], *([[setarch, "-R", program]] if setarch else []):
        done = subprocess.run(command, capture_output=True, text=True)
        if not done.returncode:
            return command
    raise KernelError(f"it does not start: {done.stderr[:300]}")


def in_its_own_process(kind, kernel, size, arguments, shared):
    """As in_this_process: one launch, (what went wrong or "", what was counted (3,))."""
    arrays = list({place(a): a for a in arguments if isinstance(a, np.ndarray)}.values())          # one given twice is one
    numbers = [np.array(a) for a in arguments if not isinstance(a, np.ndarray)]
    nth, next_number = {place(a): i for i, a in enumerate(arrays)}, iter(range(len(arrays), len(arrays) + len(numbers)))
    buffers = [nth[place(a)] if isinstance(a, np.ndarray) else next(next_number) for a in arguments]
    codes = [[b < len(arrays), a.dtype.itemsize, a.dtype.kind == "f", b] for a, b in zip(arguments, buffers)]
    told = [np.array([*size, shared, ORDERS[emulator._order], emulator._seed, len(codes), len(arrays + numbers)], np.int32),
            np.array(codes, np.int64)]                                     # as sanitized_launch.cpp takes them
    for i, a in enumerate(arrays + numbers):
        told += np.array([a.nbytes, i < len(arrays)], np.int64), a

    library = str(compiled(kernel.text, kernel.options, FLAGS + SANITIZERS[kind]))
    done = subprocess.run([*process(kind), library], input=b"".join(a.tobytes() for a in told), capture_output=True,
                          timeout=SECONDS, env=os.environ | SETTINGS)
    if done.returncode:
        named = {b: f"argument {i}, shape {a.shape}" for i, (a, b) in reversed([*enumerate(zip(arguments, buffers))])}
        return sentence(kind, kernel, done.stderr.decode(errors="replace"), named, shared), np.zeros(3, np.int64)
    message, counted, rest = done.stdout[:2048].rstrip(b"\0"), done.stdout[2048:2072], done.stdout[2072:]
    for a in arrays:
        if a.flags.writeable and not message:
            a.reshape(-1).view(np.uint8)[...] = np.frombuffer(rest[:a.nbytes], np.uint8)
        rest = rest[a.nbytes:]
    return in_words(message.decode(), library), np.frombuffer(counted, np.int64)


# ---- reports --------------------------------------------------------------------------------------------------------

def sentence(kind, kernel, report, named, shared):
    """What a report says, in one sentence, and the report's first lines. named: {which array: what to call it}"""
    summary = race(kernel, report) if kind == "thread" else overrun(kernel, report, named, shared)
    telling = rf"runtime error|Sanitizer: |^ *(Previous )?[\w ]+ of size |is located|#.*({re.escape(kernel.name)}|\.cuh):\d"
    lines = [line[:160] for line in report.splitlines() if re.search(telling, line)]
    return f"{NAMES[kind]}: {summary or 'it ended with a report'}\n\n" + "\n".join(lines[:LINES])


ACCESS = re.compile(r"^  (?:Previous )?((?:atomic )?(?:read|write)) of size (\d+) at \w+ by (?:thread )?(.+?):\n"
                    r"((?:    .*\n)+)", re.M | re.I)


def race(kernel, report):
    accesses = ACCESS.findall(report)[:2]
    if "data race" not in report or len(accesses) < 2:
        return None
    names = dict(re.findall(r"^  Thread (T\d+) '(.+?)' ", report, re.M))
    (now, size, who, frames), (then, _, other, frames_then) = accesses
    who, other = (names.get(thread, thread) for thread in (who, other))
    same_block = who.split("thread")[0] == other.split("thread")[0]
    between = "neither __syncthreads nor __syncwarp between" if same_block else \
        "nothing to order two blocks: only atomics may meet"
    return (f"a data race: {who}: {now.lower()} of {size} bytes{where(kernel, frames)}; {other}: {then.lower()} of the same"
            f"{where(kernel, frames_then)}; {between}")


def overrun(kernel, report, named, shared):
    by = re.search(r"^emulator: (block .+)", report, re.M)
    by = f", by {by[1]}" if by else ""
    if undefined := re.search(r"runtime error: (.+)", report):             # of UndefinedBehaviorSanitizer
        return f"{undefined[1]}{where(kernel, report)}{by}"
    kind, access = re.search(r"AddressSanitizer: ([\w-]+)", report), re.search(r"^(READ|WRITE) of size (\d+)", report, re.M)
    if not kind or not access:
        return None
    return f"{access[1].lower()} of {access[2]} bytes{beside(report, named, shared)}{where(kernel, report)}{by} ({kind[1]})"


def beside(report, named, shared):
    """, 0 bytes past the end of argument 1, shape (5, 77)"""
    found = re.findall(r"is located (\d+) bytes? (to the right of|after|to the left of|before|inside of) "
                       r"(?:(\d+)-byte region \[(0x\w+)|global variable '(\w+)'.*? of size (\d+))", report)
    if not found:
        return ""
    distance, side, size, address, variable, room = min(found, key=lambda f: int(f[0]))
    side = {"to the right of": "past the end of", "after": "past the end of"}.get(side, "before the start of")
    arrays = {a: named.get(int(i)) for i, a in re.findall(r"^emulator: array (\d+) at (0x\w+)", report, re.M)}
    place = {int(a, 16): name for a, name in arrays.items()}
    what = f"`{variable}`, {room} bytes" if variable else \
        place.get(int(address, 16), f"{size} bytes of dynamic shared memory")
    return f", {distance} bytes {side} {what}"


def where(kernel, frames):
    """ in line 12: `y[i] = …`: the innermost line of the kernel's own text or of a file that it includes."""
    own = kernel.text.split(f'#line 1 "{kernel.name}"\n')[1]
    included = {path.name: path for o in kernel.options if o.startswith("-I") for path in Path(o[2:]).glob("*.cuh")}
    for frame in frames.splitlines():
        if found := re.search(rf"\b{re.escape(kernel.name)}:(\d+)", frame):
            return f" in line {found[1]}: {quoted(own, found[1])}"
        if (found := re.search(r"([^/\s]+\.cuh):(\d+)", frame)) and found[1] in included:
            return f" in line {found[2]} of {found[1]}: {quoted(included[found[1]].read_text(encoding='utf-8'), found[2])}"
    return ""


def quoted(text, line):
    return f"`{text.splitlines()[int(line) - 1].split('//')[0].strip()}`"
