"""How large a model is, by its configuration alone: parameters, memory, and the arithmetic of training it.

B sequences of T tokens: N = B T. Memory is in bytes, arithmetic in floating-point operations (FLOPs): a product and its sum
are two. `kind` is "gpt", "bert" (with the head that guesses tokens) or "bert body".
"""
from ..ops import causal_attention as causal
from .rotary import rotated_channels

FLOATS = {"float32": 4, "float16": 2, "bfloat16": 2}     # bytes a number
QUANTISED = {"int8": (8, None), "int4": (4, 32)}         # bits a number, numbers of a row that share a float16 scale
DTYPES = (*FLOATS, *QUANTISED)
RECOMPUTED = ("nothing", "attention", "blocks")


# ---- parameters ------------------------------------------------------------------------------------------------------

def block_matrices(config):
    """{name: (in, out)} of the linear layers of one block."""
    c = config
    queries, keys = c.n_head * c.head_size, c.n_kv_head * c.head_size
    gate = {"mlp.gate": (c.n_embd, c.n_inner)} if c.gated else {}
    return {"attn.qkv": (c.n_embd, queries + 2 * keys), "attn.proj": (queries, c.n_embd), **gate,
            "mlp.fc": (c.n_embd, c.n_inner), "mlp.proj": (c.n_inner, c.n_embd)}


def parameters(config, kind="gpt"):
    """{part: parameters}: what counting those of a built GPT or BERT gives."""
    c, C, V = config, config.n_embd, config.vocab_size
    sizes = {name: n_in * n_out + n_out * (c.attention_bias if name.startswith("attn") else c.bias)
             for name, (n_in, n_out) in block_matrices(c).items()}
    norm = C if c.norm == "rms" or not c.bias else 2 * C
    head = {"gpt": 0 if c.tied else V * C, "bert": C * C + C + 2 * C + V, "bert body": 0}[kind]
    parts = {"token embedding": V * C, "position embedding": c.block_size * C if c.position == "learned" else 0,
             "segment embedding": c.segments * C if kind != "gpt" else 0,
             "attention": c.n_layer * sum(n for name, n in sizes.items() if name.startswith("attn")),
             "MLP": c.n_layer * sum(n for name, n in sizes.items() if name.startswith("mlp")),
             "norms": (2 * c.n_layer + 1) * norm, "head": head}
    return {part: n for part, n in parts.items() if n}


def n_parameters(config, kind="gpt"):
    return sum(parameters(config, kind).values())


def n_lora(config, rank):
    """Parameters of low-rank adapters on every linear layer of the blocks: of a matrix (out, in), rank · (in + out)
    (Hu et al. 2022 [LORA])."""
    return config.n_layer * sum(rank * (n_in + n_out) for n_in, n_out in block_matrices(config).values())


# ---- memory ----------------------------------------------------------------------------------------------------------

def number_size(dtype):
    """Bytes of a number that is computed with: quantised weights are multiplied as 16-bit numbers."""
    return FLOATS.get(dtype, 2)


def weights(config, dtype, kind="gpt"):
    """Bytes of the weights. Quantised are the blocks' matrices: a row of int8, or 32 numbers of int4, has a float16 scale;
    embeddings, norms, biases and an untied head stay in 16 bits."""
    n = n_parameters(config, kind)
    if dtype in FLOATS:
        return n * FLOATS[dtype]
    bits, group = QUANTISED[dtype]
    matrices = block_matrices(config).values()
    stored = sum(n_out * (-(-n_in * bits // 8) + 2 * -(-n_in // (group or n_in))) for n_in, n_out in matrices)
    return config.n_layer * stored + 2 * (n - config.n_layer * sum(n_in * n_out for n_in, n_out in matrices))


def kv_cache(config, T, B, dtype):
    """Bytes of the keys and values of T tokens of B sequences: 2 · layers · key heads · head size · N numbers. A model that
    sees in both directions writes nothing one token at a time, and keeps none."""
    if not config.causal:
        return 0
    return 2 * config.n_layer * config.n_kv_head * config.head_size * T * B * number_size(dtype)


def training(config, T, B, dtype, *, kind="gpt", lora=None, recompute="attention"):
    """{what: bytes} while training with AdamW: in 16 bits, float32 master weights beside the two moments (16 bytes a
    parameter in all [ZERO]). With `lora`, a rank, all this is of the adapters alone, and the weights may be quantised."""
    if dtype in QUANTISED and lora is None:
        raise ValueError(f"weights of {dtype} have no gradient: train in {', '.join(FLOATS)}, or adapters with --lora RANK")
    trained, size = n_parameters(config, kind) if lora is None else n_lora(config, lora), number_size(dtype)
    return {"weights": weights(config, dtype, kind) + (0 if lora is None else trained * size), "gradients": trained * size,
            "optimizer": trained * (8 + (4 if size == 2 else 0)),
            "activations": activations(config, T, B, size, kind=kind, recompute=recompute)}


def activations(config, T, B, size, *, kind="gpt", recompute="nothing"):
    """Bytes that backward needs, numbers having `size` bytes and dropout's masks 1: the count of Korthikanti et al. 2022
    [RECOMPUTE], eq. 2, sec. 4.3, with each layer's own width.

    recompute: "nothing"; "attention" makes the T × T scores again (eq. 6, as [FLASH] does); "blocks" keeps what goes into
    each block alone, and at the highest point all of one block.
    """
    c, N, C, dropped = config, B * T, config.n_embd, config.dropout > 0
    queries, keys = c.n_head * c.head_size, c.n_kv_head * c.head_size
    attention = C + queries + 2 * keys + queries         # what qkv, scores and sum, proj read
    mlp = C + c.n_inner * (4 if c.gated else 2)          # what fc, bend, (product,) proj read
    block = N * (size * (attention + mlp + 2 * C) + 2 * C * dropped)               # 2 C: the norms; and a mask a part
    scores = B * c.n_head * T * T * (size + (1 + size) * dropped)                  # softmax; mask; what was dropped
    ends = N * (C * dropped + size * 2 * C + 4 * c.vocab_size)                     # embeddings; norm, head; float32 logits
    if kind == "bert":
        ends += N * size * 2 * C                         # its head has a layer and a norm more
    if recompute == "blocks":
        return c.n_layer * N * C * size + block + scores + ends
    return c.n_layer * (block + (scores if recompute == "nothing" else 0)) + ends


BEND = {"gelu_tanh": 1, "gelu": 2, "relu": 1, "silu": 2}                           # arrays that the bend's backward needs


def engine_activations(config, T, B, *, kind="gpt", size=4):
    """Bytes that the graph of this library's engine holds between forward and backward on the CPU, without a mask, T > 1:
    exactly what summing every array that its nodes saved gives, weights apart."""
    c, N, C = config, B * T, config.n_embd
    queries, keys, rotary = c.n_head * c.head_size, c.n_kv_head * c.head_size, c.position == "rotary"
    norm = C + 1                                                                   # x̂ and 1/√(var + ε)
    attention = C + queries + 2 * keys + queries                                   # what qkv reads; q, k, v; what proj reads
    if not c.plain_attention:
        copied = rotary or c.n_kv_head < c.n_head
        attention += c.n_head * T + queries * copied + keys * rotary               # the scores; q and k turned, or q grouped
    mlp = C + c.n_inner * (BEND[c.activation] + 2 * c.gated + 1)
    masks = C * (c.dropout > 0)
    floats = N * (c.n_layer * (attention + mlp + 2 * norm + 2 * masks) + masks + norm + C + c.vocab_size + 1)
    if c.plain_attention:
        floats += c.n_layer * B * c.n_head * saved_of_scores(T)
    if kind == "bert":
        floats += N * (C * BEND[c.activation] + norm + C)
    if rotary:
        floats += T * -(-rotated_channels(c) // 2) * 2                             # cos and sin, for all blocks
    return floats * size + N * (8 + 8 + 8)                                         # token ids; where the targets are


def saved_of_scores(T):
    """Numbers of each head and sequence that ops/causal_attention.py saves: the weights of few tokens, of many log Σ exp."""
    if T > causal.FEW:
        return T
    tiles = causal.tiles(1, T, 1, causal.QUERIES[0], causal.SCORES)
    return sum((t.stop - t.start) * past.stop for _, t, past in tiles)


# ---- arithmetic ------------------------------------------------------------------------------------------------------

def forward_flops(config, T, kind="gpt"):
    """{part: FLOPs a token} of all matrix products of a forward pass over T tokens. Attention counts T × T scores, as is
    usual ([PALM] appendix B), though of causal ones half could be left out. A backward has twice as many."""
    c, parts = config, {"attention": 0, "MLP": 0}
    for name, (n_in, n_out) in block_matrices(c).items():
        parts["attention" if name.startswith("attn") else "MLP"] += 2 * c.n_layer * n_in * n_out
    parts["scores"] = 4 * c.n_layer * c.n_head * c.head_size * T                   # q kᵀ, and weights times v
    parts["head"] = {"gpt": 2 * c.n_embd * c.vocab_size, "bert body": 0,
                     "bert": 2 * c.n_embd * (c.vocab_size + c.n_embd)}[kind]
    return parts


# ---- cards -----------------------------------------------------------------------------------------------------------

GIB = 1 << 30
CARDS = (8, 12, 16, 24, 40, 48, 80, 141)                 # GiB on the card, as sold


def usable(card):
    """Bytes of a card that a model can have: about 1 GiB is the driver's and the kernels', and about a twentieth is lost
    to buffers and to the gaps between arrays."""
    return int((0.95 * card - 1) * GIB)


def smallest_card(needed):
    """The smallest card that holds so many bytes; None where none does."""
    return next((card for card in CARDS if needed <= usable(card)), None)
