"""The shape of a transformer: GPT-2 by default, and by other settings GPT-NeoX, LLaMA and BERT."""
from dataclasses import dataclass

from .rotary import rotated_channels

CHOICES = {"norm": ("layer", "rms"), "activation": ("gelu_tanh", "gelu", "relu", "silu"), "position": ("learned", "rotary"),
           "order": ("pre", "parallel", "post")}
SCALINGS = {"linear": {"factor"}, "ntk": {"factor"}, "llama3": {"factor", "low", "high", "length"}}

FAMILIES = {                            # the settings by which they differ from GPT-2
    "gpt2": {},
    "neox": dict(activation="gelu", position="rotary", rotary_share=0.25, order="parallel", tied=False),
    "llama": dict(bias=False, norm="rms", activation="silu", gated=True, position="rotary", tied=False)}


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a transformer. What is None takes GPT-2's value, which depends on others."""
    vocab_size: int
    block_size: int                     # the longest sequence it can read
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128
    dropout: float = 0.0                # on the embeddings and on what each block adds
    bias: bool = True                   # do linear layers have one, and layer norms?
    n_kv_head: int | None = None        # heads of keys and values, each for n_head / n_kv_head heads of queries [GQA]
    head_size: int | None = None        # channels a head: n_embd / n_head
    n_inner: int | None = None          # channels inside the MLP: 4 n_embd
    attention_bias: bool | None = None  # of attention's linear layers, where they differ from `bias`
    norm: str = "layer"                 # or "rms" (LLaMA)
    norm_eps: float = 1e-5
    activation: str = "gelu_tanh"       # or "gelu" (NeoX, BERT), "relu", "silu" (LLaMA)
    gated: bool = False                 # does a second layer say how much of each inner channel counts? [GLU]
    position: str = "learned"           # or "rotary" [ROPE]
    rotary_share: float = 1.0           # of a head's channels
    rope_theta: float = 10000.0
    rope_scaling: dict | None = None    # see models/rotary.py
    order: str = "pre"                  # norms before each part; "parallel": both parts read the same; "post": norms after
    causal: bool = True                 # does a token see those before it only?
    tied: bool = True                   # is the head the embedding?
    segments: int = 0                   # kinds of segment that have an embedding (BERT: 2)

    def __post_init__(self):
        for name, value in (("n_kv_head", self.n_head), ("n_inner", 4 * self.n_embd), ("attention_bias", self.bias)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd", "n_kv_head", "n_inner"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.head_size is None:
            if self.n_embd % self.n_head:
                raise ValueError(f"n_embd={self.n_embd} channels cannot be split evenly between n_head={self.n_head} heads")
            object.__setattr__(self, "head_size", self.n_embd // self.n_head)
        if self.n_head % self.n_kv_head:
            raise ValueError(f"n_kv_head={self.n_kv_head} heads of keys cannot serve n_head={self.n_head} heads of queries "
                             "evenly")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.position == "rotary" and not 0 < self.rotary_share <= 1:
            raise ValueError(f"rotary_share is a share of a head's channels in (0, 1], not {self.rotary_share}")
        if self.position == "rotary" and not 0 < (R := rotated_channels(self)) <= self.head_size // 2 * 2:
            raise ValueError(f"rotary_share={self.rotary_share} of head_size={self.head_size} are {R} channels, and channels "
                             "turn in pairs: give at least 1 and, of an odd head_size, not all")
        if self.rope_scaling is not None:
            kind, numbers = self.rope_scaling.get("kind"), set(self.rope_scaling) - {"kind"}
            if SCALINGS.get(kind) != numbers:
                raise ValueError(f"rope_scaling is one of {', '.join(f'{k} with {sorted(n)}' for k, n in SCALINGS.items())}, "
                                 f"not {self.rope_scaling}")

    @property
    def plain_attention(self):
        """Is attention GPT-2's, for which there is one fused operation?"""
        return self.causal and self.position == "learned" and self.n_kv_head == self.n_head

    @property
    def plain_block(self):
        """Is the block GPT-2's, with biases or without?"""
        return self.plain_attention and self.norm == "layer" and self.activation == "gelu_tanh" and not self.gated \
            and self.order == "pre"
