"""How long something takes: the median of many times, after some to warm up."""
from statistics import median
from time import perf_counter


def median_ms(f, seconds):
    """The median duration of f() in milliseconds."""
    return medians([f], seconds)[0]


def forward_and_backward_ms(f, dy, inputs, seconds):
    """Median milliseconds of y = f() and of y.backward(dy); the tensors may be ours or PyTorch's, which look alike here."""
    def forward():
        for x in inputs:
            x.grad = None
        made.append(f())

    made = []
    return medians([forward, lambda: made.pop().backward(dy)], seconds)


def medians(parts, seconds):
    """The median milliseconds of each part, where all are called in turn for about so many seconds, three times at least,
    after a quarter of that to warm up."""
    for enough, least in ((seconds / 4, 1), (seconds, 3)):
        times, until = [], perf_counter() + enough
        while perf_counter() < until or len(times) < least:
            marks = [perf_counter()]
            for part in parts:
                part()
                marks.append(perf_counter())
            times.append([end - began for began, end in zip(marks, marks[1:])])
    return [1e3 * median(part) for part in zip(*times)]
