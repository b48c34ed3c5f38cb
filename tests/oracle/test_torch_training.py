"""Whole trajectories against PyTorch: optimizers, clipping, and a GPT with the same weights."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tinygrad_lm import Tensor, nn, optim
from tinygrad_lm.models import GPT, GPTConfig

torch = pytest.importorskip("torch")
TF = torch.nn.functional
pytestmark = pytest.mark.oracle

MAKERS = {
    "sgd": (lambda p: optim.SGD(p, lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "momentum": (lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
                 lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1)),
    "adamw": (lambda p: optim.AdamW(p, lr=0.1, betas=(0.8, 0.99), eps=1e-4, weight_decay=0.1),
              lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.8, 0.99), eps=1e-4, weight_decay=0.1)),
    "adamw default": (lambda p: optim.AdamW(p), lambda p: torch.optim.AdamW(p)),
}


@settings(max_examples=20)
@given(st.sampled_from(sorted(MAKERS)), st.sampled_from([0.5, 1e3]), st.integers(0, 2**32 - 1))
def test_trajectories(kind, most, seed):
    """Ten clipped steps on random gradients; matrices only, since vectors do not decay here."""
    rng = np.random.default_rng(seed)
    start = [rng.standard_normal((2, 3)), rng.standard_normal((4, 1))]
    ours, theirs = [nn.Parameter(w.copy()) for w in start], [torch.nn.Parameter(torch.tensor(w)) for w in start]
    a, b = MAKERS[kind][0](ours), MAKERS[kind][1](theirs)
    for _ in range(10):
        for p, q in zip(ours, theirs):
            g = rng.standard_normal(p.shape)
            (p * g).sum().backward()
            q.grad = torch.tensor(g)
        norm = optim.clip_grad_norm_(ours, most)
        assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, most).item())
        a.step(), a.zero_grad(), b.step()
        for p, q in zip(ours, theirs):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-5, atol=1e-7)      # clipping adds 1e-6 there


class TorchGPT(torch.nn.Module):
    """GPT-2's shape in PyTorch's own layers, named as ours are, so that a state goes from one to the other."""

    def __init__(self, c):
        super().__init__()
        C, Linear, Module = c.n_embd, torch.nn.Linear, torch.nn.ModuleDict
        self.wte, self.wpe = torch.nn.Embedding(c.vocab_size, C), torch.nn.Embedding(c.block_size, C)
        self.blocks = torch.nn.ModuleList(
            Module(dict(ln1=torch.nn.LayerNorm(C), attn=Module(dict(qkv=Linear(C, 3 * C), proj=Linear(C, C))),
                        ln2=torch.nn.LayerNorm(C), mlp=Module(dict(fc=Linear(C, 4 * C), proj=Linear(4 * C, C)))))
            for _ in range(c.n_layer))
        self.ln_f, self.n_head = torch.nn.LayerNorm(C), c.n_head

    def forward(self, idx):
        B, T = idx.shape
        x = self.wte(idx) + self.wpe(torch.arange(T))
        for b in self.blocks:
            q, k, v = (p.view(B, T, self.n_head, -1).transpose(1, 2) for p in b["attn"]["qkv"](b["ln1"](x)).chunk(3, dim=-1))
            y = TF.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + b["attn"]["proj"](y.transpose(1, 2).reshape(x.shape))
            x = x + b["mlp"]["proj"](TF.gelu(b["mlp"]["fc"](b["ln2"](x)), approximate="tanh"))
        return self.ln_f(x) @ self.wte.weight.T


@settings(max_examples=10)
@given(st.sampled_from([(1, 1, 4), (2, 2, 8), (3, 4, 16)]), st.integers(1, 3), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_gpt(shape, B, T, seed):
    """Logits, loss and the gradient of every parameter, in float64."""
    rng = np.random.default_rng(seed)
    n_layer, n_head, n_embd = shape
    config = GPTConfig(vocab_size=11, block_size=7, n_layer=n_layer, n_head=n_head, n_embd=n_embd)
    ours, theirs = GPT(config, rng=rng).to(np.float64), TorchGPT(config).double()
    for p in ours.parameters():
        p.data += 0.3 * rng.standard_normal(p.shape)                      # away from the zeros and ones of the start
    theirs.load_state_dict({name: torch.tensor(a) for name, a in ours.state_dict().items()})
    idx, targets = rng.integers(0, 11, (B, T)), rng.integers(0, 11, (B, T))
    targets[rng.random((B, T)) < 0.2] = -100
    targets[0, 0] = 3
    logits = theirs(torch.tensor(idx))
    np.testing.assert_allclose(ours(idx).data, logits.detach().numpy(), rtol=1e-9, atol=1e-10)
    loss = TF.cross_entropy(logits.reshape(B * T, 11), torch.tensor(targets).reshape(-1))
    mine = ours.loss(idx, targets)
    assert isinstance(mine, Tensor) and mine.item() == pytest.approx(loss.item(), rel=1e-12)
    mine.backward(), loss.backward()
    theirs_by_name = dict(theirs.named_parameters())
    for name, p in ours.named_parameters():
        np.testing.assert_allclose(p.grad, theirs_by_name[name].grad.numpy(), rtol=1e-8, atol=1e-10, err_msg=name)


def test_gpt_learns_the_same():
    """Thirty steps of AdamW from the same start in float32: the losses stay together."""
    config = GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=16)
    ours, theirs = GPT(config), TorchGPT(config)
    theirs.load_state_dict({name: torch.tensor(a) for name, a in ours.state_dict().items()})
    decay = [p for p in theirs.parameters() if p.ndim > 1], [p for p in theirs.parameters() if p.ndim < 2]
    a = optim.AdamW(ours.parameters(), lr=1e-2, weight_decay=0.1)
    b = torch.optim.AdamW([dict(params=decay[0], weight_decay=0.1), dict(params=decay[1], weight_decay=0.0)], lr=1e-2)
    rng = np.random.default_rng(0)
    for _ in range(30):
        idx = (rng.integers(0, 11, (4, 1)) + np.arange(9)) % 11             # counting
        loss, other = ours.loss(idx[:, :-1], idx[:, 1:]), theirs(torch.tensor(idx[:, :-1]))
        other = TF.cross_entropy(other.reshape(-1, 11), torch.tensor(idx[:, 1:]).reshape(-1))
        loss.backward(), optim.clip_grad_norm_(ours.parameters(), 1.0), a.step(), a.zero_grad()
        b.zero_grad(), other.backward(), torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0), b.step()
        assert loss.item() == pytest.approx(other.item(), rel=2e-3)
    assert loss.item() < 0.5
