"""Some elements, drawn at random, become zero, and the rest grow so that the mean stays (Srivastava et al. 2014 [DROP])."""


def dropout_forward(x, *, p, rng):
    keep = (rng.random(x.shape, dtype="float32") >= p) * x.dtype.type(1 / (1 - p))   # 0 or 1/(1−p)
    return x * keep, (keep,)


def dropout_backward(dy, saved):
    keep, = saved
    return dy * keep,
