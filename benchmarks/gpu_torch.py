"""PyTorch's side of benchmarks/gpu.py, as its own users write it."""
import torch
import torch.nn.functional as F

from tinygrad_lm.bench.beside_torch import Net, trainer

from .gpu_ours import milliseconds


def finished(device):
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def kernel(name, dtype, shape, device="cuda"):
    """One call, as a function of nothing; a backward is that of a graph that is kept."""
    array = lambda *s: torch.randn(*s, device=device).to(getattr(torch, dtype)).requires_grad_()
    if name == "AdamW":
        weights = array(*shape)
        weights.grad = torch.randn_like(weights)
        return torch.optim.AdamW([weights], fused=True).step
    if name == "embedding backward":
        N, C, V = shape
        idx, inputs = torch.randint(V, (N,), device=device), [array(V, C)]
        forward = lambda: F.embedding(idx, *inputs)
    elif name.startswith("attention"):
        inputs = [array(*shape) for _ in range(3)]
        forward = lambda: F.scaled_dot_product_attention(*inputs, is_causal=True)
    else:
        N, C = shape
        x, w, b = array(N, C), array(C), array(C)
        targets = torch.randint(C, (N,), device=device)
        inputs, forward = {
            "softmax": ([x], lambda: F.softmax(x, -1)),
            "layer norm": ([x, w, b], lambda: F.layer_norm(x, (C,), w, b)),
            "RMS norm": ([x, w], lambda: F.rms_norm(x, (C,), w)),
            "cross-entropy": ([x], lambda: F.cross_entropy(x, targets)),
            "": ([x], lambda: F.dropout(x, 0.1)),
        }[name.rpartition(" ")[0]]
    if not name.endswith("backward"):
        return torch.no_grad()(forward)
    y = forward()
    dy = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def kernel_ms(name, dtype, shape, seconds, device="cuda"):
    return milliseconds(kernel(name, dtype, shape, device), finished(device), seconds)


def step_ms(shape, dtype, seconds, device="cuda", compiled=False):
    """[milliseconds, bytes reserved at most]; float16: autocast to bfloat16, which needs no loss scale."""
    V, T, C, layers, heads, batch = shape
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with torch.device(device):                   # also where the model makes arrays of its own
        net = Net(V, T, C, layers, heads)
        if compiled:
            net.loss = torch.compile(net.loss)
        step = trainer(net, lr=1e-3)
        idx, targets = torch.randint(V, (2, batch, T))
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "float16"):
            ms = milliseconds(lambda: step(idx, targets), finished(device), seconds)
    return [ms, torch.cuda.max_memory_reserved() if device == "cuda" else 0]
