"""What is measured: the shapes of models, and for each operation how much arithmetic and memory traffic it cannot avoid, from
which follows how fast a machine could be at best (Williams et al. 2009 [ROOF])."""
from dataclasses import dataclass

NANOGPT = (65, 64, 128, 4, 4, 12)                # nanoGPT's setting for Shakespeare's characters on a CPU

STEPS = (                                        # vocabulary, T, C, layers, heads, batch
    (65, 32, 32, 2, 2, 4),
    NANOGPT,
    (65, 128, 192, 6, 6, 16),
    (65, 256, 384, 6, 6, 8),                     # nanoGPT's setting on a GPU, smaller batch
    (512, 256, 256, 4, 4, 8),
    (65, 32, 128, 4, 4, 12), (65, 256, 128, 4, 4, 12),          # NANOGPT with one number changed: T,
    (65, 64, 64, 4, 4, 12), (65, 64, 256, 4, 4, 12),            # C,
    (65, 64, 128, 2, 4, 12), (65, 64, 128, 8, 4, 12),           # layers,
    (65, 64, 128, 4, 4, 1), (65, 64, 128, 4, 4, 48),            # batch
)
GROWTH = {"T": [(65, T, 128, 4, 4, 4) for T in (32, 64, 128, 256, 512, 1024)],
          "C": [(65, 64, C, 4, 4, 4) for C in (32, 64, 128, 256, 512, 768)]}
WRITERS = [(65, 256, C, layers, heads, batch) for layers, C, heads in ((4, 128, 4), (6, 384, 6)) for batch in (1, 32)]
OPERATIONS = (512, 256, 384, 6, 8)               # V, T, C, heads, batch

QUICK_STEPS = (STEPS[0], NANOGPT)
QUICK_GROWTH = {"T": [(65, T, 64, 2, 2, 4) for T in (32, 64, 128)], "C": [(65, 32, C, 2, 2, 4) for C in (32, 64, 128)]}
QUICK_WRITERS = [(65, 64, 128, 4, 4, 1), (65, 64, 128, 4, 4, 8)]
QUICK_OPERATIONS = (512, 64, 128, 4, 12)


@dataclass(frozen=True)
class Work:
    """Floating-point operations (an exp or tanh counts as one), and numbers that must be read or written."""
    flops: float
    numbers: float

    @property
    def intensity(self):
        """Operations for each byte that travels: few, and memory decides the speed; many, and arithmetic does."""
        return self.flops / (4 * self.numbers)

    def milliseconds(self, gflops, gbytes):
        """How long a machine needs at least that computes and copies so many 10⁹ operations and bytes a second."""
        return max(self.flops / gflops, 4 * self.numbers / gbytes) / 1e6


def works(V, T, C, heads, batch):
    """{operation: (forward, backward)}; the update has no backward."""
    N, n = batch * T, batch * T * C
    pairs = batch * heads * T * T / 2                                    # what a causal query may look at
    product, weights = 2 * N * C * 4 * C, 4 * C * C
    return {
        "linear + bias": (Work(product + 4 * n, 5 * n + weights), Work(2 * product + 4 * n, 6 * n + 2 * weights)),
        "GELU": (Work(8 * 4 * n, 2 * 4 * n), Work(16 * 4 * n, 3 * 4 * n)),
        "layer norm": (Work(7 * n, 2 * n), Work(11 * n, 3 * n)),
        "RMS norm": (Work(4 * n, 2 * n), Work(8 * n, 3 * n)),
        "cross-entropy": (Work(4 * N * V, N * V), Work(3 * N * V, 2 * N * V)),
        "attention": (Work(pairs * (4 * C / heads + 4), 4 * n), Work(pairs * (8 * C / heads + 4), 8 * n)),
        "embedding": (Work(0, 2 * n), Work(n, n + V * C)),
        "AdamW": (Work(12 * 12 * C * C, 7 * 12 * C * C), None),          # of one block's 12 C² parameters
    }
