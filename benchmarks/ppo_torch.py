"""An iteration of PPO beside the same loop in eager PyTorch, as one writes it there: 128 answers of 12 tokens from the demo's
model, its reward, value and reference models, 4 epochs.

    python -m pip install torch
    python -m benchmarks.ppo_torch            # half a minute

Each side in a process of its own, asked in turn; the ratio ours/theirs is taken round by round: below 1.00 is ahead. PyTorch
is asked with one thread and with all.
"""
import argparse
from statistics import median
from time import perf_counter

from tinygrad_lm.bench.turns import ratio, sides
from tinygrad_lm.text.names import PROMPT_LENGTH, tokenizer
from tinygrad_lm.train.ppo import PPOConfig

V, BLOCK, C, LAYERS, HEADS = len(tokenizer), 32, 64, 3, 4               # the demo's GPT: see train/road.py


def ours(threads, iterations):
    """Milliseconds an iteration. No answer ends before its 12 tokens, so that both sides do the same work."""
    from copy import deepcopy

    import numpy as np

    from tinygrad_lm.models import RewardModel
    from tinygrad_lm.parallel import one_blas_thread
    from tinygrad_lm.train import road
    from tinygrad_lm.train.ppo import ppo, value_for
    from tinygrad_lm.train.run import Run

    rng, c = np.random.default_rng(0), PPOConfig(iterations=iterations)
    policy = road.new_model(rng)
    reward, prompts = RewardModel(policy, rng=rng), rng.integers(4, V, (1000, PROMPT_LENGTH))
    with one_blas_thread():                                             # as the demo does
        began = perf_counter()
        ppo(policy, value_for(policy, c), deepcopy(policy), road.learned_score(reward), prompts, c, rng=rng, run=Run(), end=None)
        return 1e3 * (perf_counter() - began) / iterations


def theirs(threads, iterations):
    """The same in PyTorch: cached sampling, one no_grad pass for each judge, fused AdamW."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from tinygrad_lm.bench.beside_torch import THREADS, Net

    class Scorer(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = Net(V, BLOCK, C, LAYERS, HEADS), nn.Linear(C, 1)
            nn.init.zeros_(self.head.weight)

        def forward(self, idx):
            return self.head(self.body.hidden(idx)).squeeze(-1)                     # (B, T)

    def write(net, idx, n):
        """(tokens, their log-probabilities)"""
        B, T = idx.shape
        caches = [torch.empty(2, B, HEADS, T + n, C // HEADS) for _ in net.blocks]
        tokens, logps, new, past = [idx], [], idx, 0
        for _ in range(n):
            logp = (net.hidden(new, caches, past)[:, -1] @ net.wte.weight.T).log_softmax(-1)
            past += new.shape[1]
            new = torch.multinomial(logp.exp(), 1)
            tokens.append(new)
            logps.append(logp.gather(1, new))
        return torch.cat(tokens, 1), torch.cat(logps, 1)

    def logprobs(net, tokens):
        logits = net.hidden(tokens[:, :-1]) @ net.wte.weight.T
        return -F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(len(tokens), -1)[:, P - 1:]

    def learn(opt, loss):
        opt.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(opt.param_groups[0]["params"], c.max_norm)
        opt.step()

    torch.set_num_threads(threads or THREADS)
    torch.manual_seed(0)
    c, P = PPOConfig(iterations=iterations), PROMPT_LENGTH
    policy, reference, value, reward = Net(V, BLOCK, C, LAYERS, HEADS), Net(V, BLOCK, C, LAYERS, HEADS), Scorer(), Scorer()
    reference.load_state_dict(policy.state_dict())
    opts = [torch.optim.AdamW(m.parameters(), lr=c.lr, eps=c.adam_eps, weight_decay=0.0, fused=True) for m in (policy, value)]
    prompts = torch.randint(4, V, (1000, P))
    began = perf_counter()
    for it in range(iterations):
        for opt in opts:
            opt.param_groups[0]["lr"] = c.lr * min((it + 1) / c.warmup, 1) * (1 - it / iterations)
        with torch.no_grad():
            tokens, old = write(policy, prompts[torch.randint(len(prompts), (c.batch_size,))], c.max_new_tokens)
            ref, old_values = logprobs(reference, tokens), value(tokens[:, :-1])[:, P - 1:]
            rewards = -c.kl_coef * (old - ref)
            rewards[:, -1] += reward(tokens)[:, -1]
            advantages, following, next_value = torch.zeros_like(rewards), 0.0, 0.0
            for t in reversed(range(c.max_new_tokens)):
                following = rewards[:, t] + c.gamma * next_value - old_values[:, t] + c.gamma * c.lam * following
                advantages[:, t], next_value = following, old_values[:, t]
            returns = advantages + old_values
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        for _ in range(c.epochs):
            ratio = (logprobs(policy, tokens) - old).exp()
            learn(opts[0], torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - c.clip, 1 + c.clip)).mean())
            v = value(tokens[:, :-1])[:, P - 1:]
            near = old_values + (v - old_values).clamp(-c.value_clip, c.value_clip)
            learn(opts[1], 0.5 * torch.maximum((v - returns) ** 2, (near - returns) ** 2).mean())
    return 1e3 * (perf_counter() - began) / iterations


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=8)
    options = parser.parse_args()
    asked = {"ours": ("ours", None), "PyTorch, one thread": ("theirs", 1), "PyTorch, all threads": ("theirs", None)}
    with sides({name: "benchmarks.ppo_torch" for name in asked}) as processes:
        times = {name: [] for name in asked}
        for _ in range(options.rounds + 1):                                         # the first warms up
            for name, (function, threads) in asked.items():
                times[name].append(processes[name].ask(function, threads, options.iterations))
    for name, t in times.items():
        against = "" if name == "ours" else f"   ours takes {ratio(times['ours'][1:], t[1:]):.2f} of it"
        print(f"{name:<22} {median(t[1:]):7.1f} ms an iteration{against}")


if __name__ == "__main__":
    main()
