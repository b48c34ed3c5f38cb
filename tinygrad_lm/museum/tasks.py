"""What the exhibits train on: models of a few hundred numbers, texts whose answer is known."""
from copy import deepcopy

import numpy as np

from ..modes import no_grad
from ..models import GPT, GPTConfig, RewardModel
from ..nn import evaluating
from ..optim import AdamW
from ..text.batches import answer_mask
from ..train import ppo
from ..train.run import Run
from ..train.step import train_step

V = 10                                  # the vocabulary: padding 0, end 1, and eight symbols
PAD, END, FIRST = 0, 1, 2


def tiny(seed=0, *, block_size=12, dropout=0.0, vocab_size=V):
    config = GPTConfig(vocab_size, block_size, n_layer=1, n_head=2, n_embd=16, dropout=dropout)
    return GPT(config, rng=np.random.default_rng(seed))


def after(token, by=1):
    """The symbol `by` further on, round the circle of symbols."""
    return FIRST + (token - FIRST + by) % (V - FIRST)


def train(model, batches, *, look=lambda model: 0.0, every=5, lr=1e-2):
    """Train on batches of (inputs, targets) or (inputs, targets, mask); (losses, look(model) before and every so often)."""
    opt, losses, seen = AdamW(model.parameters(), lr=lr, weight_decay=0.0), [], [look(model)]
    for i, batch in enumerate(batches):
        if len(batch) == 2:
            losses.append(train_step(model, opt, *batch))
        else:
            opt.zero_grad()
            loss = model.loss(batch[0], batch[1], mask=batch[2])
            loss.backward()
            opt.step()
            losses.append(loss.item())
        if (i + 1) % every == 0:
            seen.append(look(model))
    return losses, seen


def chat_mask(tokens, question):
    """Where the answers are in conversations whose questions have `question` tokens and whose answers have one and their end
    token: int (B, T) -> bool (B, T)"""
    turn = question + 2
    return np.concatenate([answer_mask(tokens[:, i:i + turn], question, END) for i in range(0, tokens.shape[1], turn)], axis=1)


# ---- PPO with a known optimum ---------------------------------------------------------------------------------------

K = 5                                   # answers of two tokens over K symbols: 25, few enough to list
BETA = 0.5


def bandit(shown="distance", *, temperature=1.0, dropout=0.0, epochs=4, lr=1e-2, iterations=40, end=None, seed=0):
    """PPO on random rewards for each answer: (mean reward, what else it logged under the name `shown`), both for each
    iteration. "distance" is the total variation between the policy and the optimum, π_ref exp(r/β)/Z, where no symbol is the
    `end`; with one, answers are of one token or two, and −1 is the reward of those that do not end."""
    rng = np.random.default_rng(seed)
    reference = tiny(seed, block_size=3, dropout=dropout, vocab_size=K)
    for p in reference.parameters():
        p.data[...] += rng.normal(0, 0.2, p.shape)
    rewards = rng.normal(0, 1, (K, K))
    policy, run = deepcopy(reference), Run()
    best = probabilities(reference, temperature) * np.exp(rewards / BETA)
    best /= best.sum()

    def look(tokens):
        return {"distance": 0.5 * abs(probabilities(policy, temperature) - best).sum()}
    config = ppo.PPOConfig(iterations=iterations, batch_size=128, epochs=epochs, lr=lr, warmup=5, kl_coef=BETA,
                           temperature=temperature, max_new_tokens=2)
    ppo.ppo(policy, RewardModel(reference), reference, lambda tokens, last: rewards[tokens[:, 1], tokens[:, 2]],
            np.zeros((1, 1), np.int64), config, rng=rng, run=run, end=end, watch=look)
    return [h["reward"] for h in run.history], [h[shown] for h in run.history]


def probabilities(model, temperature=1.0):
    """π of every answer (K, K), from the scores themselves: none of the functions that exhibits replace has a part in it."""
    tokens = np.array([[0, k] for k in range(K)])
    with no_grad(), evaluating(model):
        z = model(tokens).data.astype(np.float64) / temperature                  # (K, 2, V)
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return p[0, 0][:, None] * p[:, 1]                                            # first token, then the second after it
