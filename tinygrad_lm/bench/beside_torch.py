"""PyTorch's side: the same models and operations, eager, as its own users write them. Only a process of its own loads it."""
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import nn

from .clock import forward_and_backward_ms, median_ms

THREADS = torch.get_num_threads()


class Block(nn.Module):
    def __init__(self, C, heads):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv, self.proj = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.fc, self.out = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

    def forward(self, x, cache=None, past=0):
        x = x + self.proj(attend(self.qkv(self.ln1(x)), self.heads, cache, past))
        return x + self.out(F.gelu(self.fc(self.ln2(x)), approximate="tanh"))


def attend(qkv, heads, cache=None, past=0):
    """Causal attention; cache: (keys, values) with room for the whole block, `past` of them already there."""
    B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    q, k, v = (z.view(B, T, heads, C // heads).transpose(1, 2) for z in qkv.split(C, 2))
    if cache is not None:
        keys, values = cache
        keys[:, :, past:past + T], values[:, :, past:past + T] = k, v
        k, v = keys[:, :, :past + T], values[:, :, :past + T]
    return F.scaled_dot_product_attention(q, k, v, is_causal=T > 1).transpose(1, 2).reshape(B, T, C)


class Net(nn.Module):
    """GPT-2's shape, its head tied to the embedding, initialised as ours."""

    def __init__(self, V, T, C, layers, heads):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, C), nn.Embedding(T, C)
        self.blocks = nn.ModuleList([Block(C, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(C)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                residual = name.endswith(("proj.weight", "out.weight"))
                nn.init.normal_(p, std=0.02 / (2 * layers) ** (0.5 if residual else 0))
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def hidden(self, idx, caches=None, past=0):
        x = self.wte(idx) + self.wpe(torch.arange(past, past + idx.shape[1]))
        for i, block in enumerate(self.blocks):
            x = block(x, caches and caches[i], past)
        return self.norm(x)

    def loss(self, idx, targets):
        logits = self.hidden(idx) @ self.wte.weight.T
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))

    @torch.inference_mode()
    def generate(self, idx, new_tokens):
        """Sample with a preallocated cache of keys and values."""
        B, T, (C, heads) = *idx.shape, (self.wte.weight.shape[1], self.blocks[0].heads)
        caches = [torch.empty(2, B, heads, T + new_tokens, C // heads) for _ in self.blocks]
        tokens, new, past = [idx], idx, 0
        for _ in range(new_tokens):
            logits = self.hidden(new, caches, past)[:, -1] @ self.wte.weight.T
            past += new.shape[1]
            new = torch.multinomial(logits.softmax(-1), 1)
            tokens.append(new)
        return torch.cat(tokens, 1)


def trainer(net, **options):
    """A function (idx, targets) -> loss that takes one step; its optimizer is the function's `opt`."""
    def step(idx, targets):
        loss = net.loss(idx, targets)
        step.opt.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        step.opt.step()
        return loss.item()

    decay = options.pop("weight_decay", 0.01)
    matrices, others = ([p for p in net.parameters() if (p.ndim >= 2) == two] for two in (True, False))
    step.opt = torch.optim.AdamW([{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}],
                                 fused=True, **options)
    return step


@lru_cache(maxsize=1)
def training(V, T, C, layers, heads, batch):
    torch.set_num_threads(THREADS)
    step = trainer(Net(V, T, C, layers, heads), lr=1e-3)
    idx, targets = torch.randint(V, (2, batch, T))
    return lambda: step(idx, targets)


def step(*shape, seconds):
    return median_ms(training(*shape), seconds)


@lru_cache(maxsize=1)
def writer(V, T, C, layers, heads, batch):
    torch.set_num_threads(THREADS)
    net, prompt = Net(V, T, C, layers, heads), torch.randint(V, (batch, T // 16))
    return lambda n: net.generate(prompt, n)


def tokens_per_second(*shape, seconds):
    _, T, *_, batch = shape
    write, n = writer(*shape), T - T // 16
    write(3)
    return batch * n / (median_ms(lambda: write(n), seconds) / 1e3)


def operations(V, T, C, heads, batch):
    array, idx = torch.randn, torch.randint(V, (batch, T))
    return {
        "linear + bias": (F.linear, [array(batch, T, C), array(4 * C, C), array(4 * C)]),
        "GELU": (lambda x: F.gelu(x, approximate="tanh"), [array(batch, T, 4 * C)]),
        "layer norm": (lambda x, w, b: F.layer_norm(x, (C,), w, b), [array(batch, T, C), array(C), array(C)]),
        "RMS norm": (lambda x, w: F.rms_norm(x, (C,), w), [array(batch, T, C), array(C)]),
        "cross-entropy": (lambda x: F.cross_entropy(x, idx.view(-1)), [array(batch * T, V)]),
        "attention": (lambda x: attend(x, heads), [array(batch, T, 3 * C)]),
        "embedding": (lambda w: F.embedding(idx, w), [array(V, C)]),
    }


def operation(name, *shape, seconds):
    torch.set_num_threads(1)
    if name == "AdamW":
        return [median_ms(update(*shape), seconds), None]
    f, arrays = operations(*shape)[name]
    inputs = [a.requires_grad_() for a in arrays]
    return forward_and_backward_ms(lambda: f(*inputs), torch.randn(f(*inputs).shape), inputs, seconds)


def update(V, T, C, heads, batch):
    w = torch.ones(12 * C, C, requires_grad=True)
    w.grad = torch.ones_like(w)
    return torch.optim.AdamW([w], fused=True).step


def roofs(n, size):
    torch.set_num_threads(1)
    a, source = torch.ones(n, n), torch.ones(size)
    product, target = torch.empty_like(a), torch.empty_like(source)
    return [2 * n ** 3 / 1e6 / median_ms(lambda: torch.matmul(a, a, out=product), 0.4),
            2 * 4 * size / 1e6 / median_ms(lambda: target.copy_(source), 0.4)]
