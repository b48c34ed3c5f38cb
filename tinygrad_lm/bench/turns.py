"""Two sides measured in turn, A B A B …, each in a process of its own: neither inherits the other's memory, threads or
caches, and what else happens on the machine meets both alike."""
import importlib
import json
import os
import sys
from contextlib import contextmanager
from statistics import median
from subprocess import PIPE, Popen
from tempfile import TemporaryFile


class Side:
    """A process that calls functions of one module for us; arguments and results travel as lines of JSON. It starts with
    the first request, and anew with the first after `close`."""

    def __init__(self, module):
        self.module, self.process = module, None

    def start(self):
        self.complaints = TemporaryFile("w+", encoding="utf-8")
        self.process = Popen([sys.executable, "-m", __name__, self.module], stdin=PIPE, stdout=PIPE, stderr=self.complaints,
                             text=True, encoding="utf-8")

    def ask(self, function, *arguments, **options):
        if self.process is None:
            self.start()
        try:
            self.process.stdin.write(json.dumps([function, arguments, options]) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.complaints.seek(0)
            raise RuntimeError(f"{self.module}.{function}{tuple(arguments)} failed:\n{self.complaints.read()[-2000:]}")
        return json.loads(answer)

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.complaints.close()
            self.process = None


@contextmanager
def sides(modules):
    """{name: Side} for {name: module}; the processes end with the block."""
    both = {name: Side(module) for name, module in modules.items()}
    try:
        yield both
    finally:
        for side in both.values():
            side.close()


def in_turn(both, rounds, function, *arguments, fresh=False, **options):
    """Ask every side the same, in turn: {name: [its answer in each round]}. Afterwards, where the next question is to find
    `fresh` processes, these end: memory that another model has used and left lies otherwise."""
    answers = [[side.ask(function, *arguments, **options) for side in both.values()] for _ in range(rounds)]
    for side in both.values() if fresh else ():
        side.close()
    return dict(zip(both, map(list, zip(*answers))))


def ratio(ours, theirs):
    """The median of ours/theirs, round by round: below 1 we are ahead."""
    return median(a / b for a, b in zip(ours, theirs))


def answer(module):
    """The other process: read a request, call, print the result, until nobody asks any more."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)                                               # what the called code prints must not come in between
    module = importlib.import_module(module)
    for line in sys.stdin:
        function, arguments, options = json.loads(line)
        print(json.dumps(getattr(module, function)(*arguments, **options)), file=out, flush=True)


if __name__ == "__main__":
    try:
        answer(sys.argv[1])
    except KeyboardInterrupt:
        pass
