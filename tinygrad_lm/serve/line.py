"""One answer at a time, in the order in which they were asked for; a line that is too long sends people away."""
from collections import deque
from contextlib import contextmanager
from math import ceil
from threading import Condition
from time import monotonic

LOOK = 0.2                              # seconds after which one who waits looks whether the client still does


class Full(Exception):
    """The line has no place left; `seconds` says when there may be one."""

    def __init__(self, seconds):
        super().__init__(f"too many requests are waiting: try again in {seconds} seconds")
        self.seconds = seconds


class Line:
    """Room for `places` that wait, behind the one whose turn it is."""

    def __init__(self, places):
        self.places, self.line, self.changed = places, deque(), Condition()
        self.took = 1.0                                                  # seconds of the turn before

    @property
    def waiting(self):
        return max(0, len(self.line) - 1)

    @contextmanager
    def turn(self, go_on):
        """with line.turn(go_on): it is our turn. While we wait, `go_on()` raises when nobody wants the answer any more."""
        me = object()
        with self.changed:
            if len(self.line) > self.places:
                raise Full(max(1, min(60, ceil(self.took * len(self.line)))))
            self.line.append(me)
        try:
            with self.changed:
                while self.line[0] is not me:
                    self.changed.wait(LOOK)
                    go_on()
            start = monotonic()
            yield
            self.took = monotonic() - start
        finally:
            with self.changed:
                self.line.remove(me)
                self.changed.notify_all()
