"""nanoGPT's recipe for Shakespeare's characters on a CPU: which validation loss, in how long, and how long PyTorch takes.

    python -m benchmarks.shakespeare --text shakespeare.txt                  # some two minutes on two cores
    python -m benchmarks.shakespeare --text shakespeare.txt --peer torch     # the same recipe in eager PyTorch, in turn
    python -m benchmarks.shakespeare --text shakespeare.txt --lr 2e-3        # the recipe's one number that is too small

4 layers, 4 heads, 128 channels, 64 characters of context, batch 12, 2000 steps of AdamW, warm-up and cosine, no dropout.
nanoGPT's README reports a validation loss of 1.88, on 20 random batches; here it is taken over the whole validation split,
the last tenth of the text. Two differences: our linear layers and norms have biases, and our vocabulary two tokens more
(padding and end, which never occur). Both sides see the same batches, 100 steps in turn, each in a process of its own.
The text is Karpathy's tinyshakespeare, 1.1 MB: github.com/karpathy/char-rnn, data/tinyshakespeare/input.txt.
"""
import argparse
import math
from pathlib import Path
from time import perf_counter

import numpy as np

from tinygrad_lm.bench.turns import sides
from tinygrad_lm.optim import AdamW, warmup_cosine
from tinygrad_lm.text.batches import Windows
from tinygrad_lm.text.char import CharTokenizer

T, C, LAYERS, HEADS, BATCH, STEPS, TURN = 64, 128, 4, 4, 12, 2000, 100
ADAMW, LR = dict(betas=(0.9, 0.99), weight_decay=0.1), 1e-3
README_LOSS = 1.88


class Ours:
    def __init__(self, V, seed):
        from tinygrad_lm.models import GPT, GPTConfig
        from tinygrad_lm.train import train_step
        self.model = GPT(GPTConfig(V, T, LAYERS, HEADS, C), rng=np.random.default_rng(seed))
        self.opt = AdamW(self.model.parameters(), **ADAMW)
        self.step = lambda idx, targets: train_step(self.model, self.opt, idx, targets, max_norm=1.0)

    def set_lr(self, lr):
        self.opt.lr = lr

    def validate(self, data):
        from tinygrad_lm.train.pretrain import evaluate
        return evaluate(self.model, data)


class Torch:
    def __init__(self, V, seed):
        import torch
        from tinygrad_lm.bench.beside_torch import Net, trainer
        torch.manual_seed(seed)
        self.net = Net(V, T, C, LAYERS, HEADS)
        self.take = trainer(self.net, **ADAMW)
        self.tensor, self.no_grad = torch.as_tensor, torch.no_grad

    def step(self, idx, targets):
        return self.take(self.tensor(idx), self.tensor(targets))

    def set_lr(self, lr):
        for group in self.take.opt.param_groups:
            group["lr"] = lr

    def validate(self, data):
        with self.no_grad():
            losses = [(len(idx), self.net.loss(self.tensor(idx), self.tensor(targets)).item())
                      for idx, targets in data.chunks(256)]
        return sum(n * loss for n, loss in losses) / sum(n for n, _ in losses)


class Course:
    """One side's training, some steps at a time."""

    def __init__(self, engine, text, steps, seed, lr):
        text = Path(text).read_text(encoding="utf-8")
        tokenizer = CharTokenizer.from_text(text)
        ids = tokenizer.encode(text)
        cut = len(ids) * 9 // 10
        self.train, self.held_out = Windows(ids[:cut], T), Windows(ids[cut:], T)
        self.engine, self.total, self.done, self.lr = engine(len(tokenizer), seed), steps, 0, lr
        self.rng = np.random.default_rng(seed)

    def advance(self, steps):
        """Train so many steps more; returns (seconds, the last batch's loss)."""
        began = perf_counter()
        for self.done in range(self.done + 1, self.done + steps + 1):
            self.engine.set_lr(warmup_cosine(self.done - 1, lr=self.lr, warmup=100, total=self.total, floor=self.lr / 10))
            loss = self.engine.step(*self.train.sample(self.rng, BATCH))
        return perf_counter() - began, loss


def begin(engine, text, steps, seed, lr):           # these three are what the main process asks of each side
    global course
    course = Course({"ours": Ours, "torch": Torch}[engine], text, steps, seed, lr)


def advance(steps):
    return course.advance(steps)


def validate():
    return course.engine.validate(course.held_out)


def run(text, names, *, steps=STEPS, seed=0, lr=LR, say=print):
    """{side: (seconds of training, validation loss)}"""
    seconds = dict.fromkeys(names, 0.0)
    with sides(dict.fromkeys(names, "benchmarks.shakespeare")) as both:
        for name, side in both.items():
            side.ask("begin", name, str(text), steps, seed, lr)
        for done in range(0, steps, TURN):
            for name, side in both.items():
                took, loss = side.ask("advance", min(TURN, steps - done))
                seconds[name] += took
                say(f"step {min(done + TURN, steps):5}  {name:<6}  loss {loss:.3f}  {seconds[name]:6.1f} s")
        return {name: (seconds[name], side.ask("validate")) for name, side in both.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches")
    parser.add_argument("--lr", type=float, default=LR, help="at its highest; it ends at a tenth")
    parser.add_argument("--peer", choices=["torch"])
    options = parser.parse_args()
    results = run(options.text, ["ours"] + ([options.peer] if options.peer else []), steps=options.steps,
                  seed=options.seed, lr=options.lr)
    for name, (took, loss) in results.items():
        print(f"{name:<6} validation loss {loss:.4f} nats a character ({loss / math.log(2):.3f} bits), training {took:.1f} s")
    print(f"nanoGPT's README: {README_LOSS}")
    if options.peer:
        print(f"ratio of the times, ours / {options.peer}: {results['ours'][0] / results[options.peer][0]:.2f}")


if __name__ == "__main__":
    main()
