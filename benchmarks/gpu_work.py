"""The bytes a kernel must move and the operations it must do, from which follows how fast a card could be at best [ROOF].

b: bytes of a number, 4 or 2. What stays on the chip costs nothing; sums of a row or a column are too few to count."""
from dataclasses import dataclass

GPT2 = (50257, 1024, 768, 12, 12, 8)                                     # vocabulary, T, C, layers, heads, batch


@dataclass(frozen=True)
class Work:
    bytes: int
    flops: int = 0                               # of matrix products; 0: memory decides

    def share(self, ms, roofs):
        """(which roof, share of it): 1 is a kernel that nothing but the card itself holds back."""
        if self.flops:
            return "matrix rate", self.flops / 1e9 / ms / roofs["TFLOP/s"]
        return "copy", self.bytes / 1e6 / ms / roofs["GB/s"]


def rows(N, C, b):
    """{kernel: Work} for N rows of C numbers; x, y, dy and dx are N · C · b bytes each."""
    x = N * C * b
    return {
        "softmax forward": Work(2 * x),                                  # x -> y
        "softmax backward": Work(3 * x),                                 # y, dy -> dx
        "layer norm forward": Work(2 * x + 2 * C * b),                   # x, w, b -> y
        "layer norm backward": Work(3 * x + 3 * C * b),                  # x, dy, w -> dx, dw, db
        "RMS norm forward": Work(2 * x + C * b),
        "RMS norm backward": Work(3 * x + 2 * C * b),
        "cross-entropy forward": Work(2 * x),                            # logits -> their gradient
        "dropout": Work(2 * x),                                          # the mask is made again, not read
    }


def attention(B, H, T, D, b):
    """Causal: a query looks at half of the keys on average; each pair costs 2 D operations a product."""
    pairs, x = B * H * T * T // 2, B * H * T * D * b
    return {
        "attention forward": Work(4 * x, 2 * 2 * D * pairs),             # q, k, v -> y; q kᵀ and p v
        "attention backward": Work(8 * x, 5 * 2 * D * pairs),            # q kᵀ again, dy vᵀ, and one product each for dq, dk, dv
    }


def embedding(N, C, V, b):
    return {"embedding backward": Work(N * C * b + V * C * b)}           # dy -> dw, most of it zeros


def adamw(n):
    return {"AdamW": Work(7 * 4 * n)}                                    # w, g, m, v -> w, m, v, always float32


def cases():
    """[(kernel, dtype, shape, Work)], as measured."""
    found = []
    for dtype, b in (("float32", 4), ("float16", 2)):
        for shape, works in [((8192, 4096), rows(8192, 4096, b)), ((8, 16, 2048, 64), attention(8, 16, 2048, 64, b)),
                             ((8192, 768, 50257), embedding(8192, 768, 50257, b))]:
            found += [(kernel, dtype, shape, work) for kernel, work in works.items()]
    return found + [("AdamW", "float32", (124_000_000,), adamw(124_000_000)["AdamW"])]
