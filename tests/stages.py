"""Each stage of training on something tiny: what the tests of resuming and of reproducibility run, and kill."""
import sys
from copy import deepcopy

import numpy as np

from tinygrad_lm.models import GPT, GPTConfig, RewardModel
from tinygrad_lm.text.batches import Rows, Windows, answer_mask, last_token, next_tokens
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.train.dpo import DPOConfig, dpo
from tinygrad_lm.train.ppo import PPOConfig, ppo
from tinygrad_lm.train.pretrain import PretrainConfig, pretrain
from tinygrad_lm.train.rejection import RejectionConfig, rejection_sampling
from tinygrad_lm.train.reward import RewardConfig, train_reward
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.sft import SFTConfig, sft

TOKENIZER = CharTokenizer("abcdef")
V, T, P = len(TOKENIZER), 7, 2                          # answers are of up to five tokens
TEXT = np.random.default_rng(0).integers(2, V, 200)
TOKENS = np.random.default_rng(1).integers(0, V, (12, 3, T))                # 12 prompts with 3 answers each
TOKENS[:, :, :P] = TOKENS[:, :1, :P]
MASK = answer_mask(TOKENS.reshape(-1, T), P, TOKENIZER.end).reshape(TOKENS.shape)
LAST = last_token(MASK.reshape(-1, T)).reshape(12, 3)
RATINGS = np.random.default_rng(2).integers(0, 4, (12, 3))                  # how much better, for each pair
STEPS = 12                                              # that every stage takes, PPO's with two epochs each


def model(seed=0):
    return GPT(GPTConfig(V, 8, n_layer=1, n_head=2, n_embd=8, dropout=0.2), rng=np.random.default_rng(seed))


def stage_pretrain(rng, run):
    m, data = model(), Windows(TEXT, T)
    pretrain(m, data, data, PretrainConfig(steps=STEPS, batch_size=4, lr=1e-2, warmup=2, eval_every=5), rng=rng, run=run)
    return m


def stage_sft(rng, run):
    m, data = model(), Rows(*next_tokens(TOKENS[:, 0], MASK[:, 0]))
    sft(m, data, data, SFTConfig(steps=STEPS, batch_size=4, lr=1e-2, warmup=2, eval_every=5), rng=rng, run=run)
    return m


def stage_reward(rng, run):
    m = RewardModel(model(), rng=np.random.default_rng(1))
    train_reward(m, TOKENS, LAST, RewardConfig(epochs=4, batch_size=4, lr=1e-2, warmup=2, margin="large"), rng=rng, run=run,
                 baseline=(TOKENS[:, 0], LAST[:, 0]), ratings=RATINGS)
    return m


def stage_safety(rng, run):
    m = RewardModel(model(), rng=np.random.default_rng(1))
    train_reward(m, TOKENS, LAST, RewardConfig(epochs=4, batch_size=4, lr=1e-2, warmup=2), rng=rng, run=run,
                 safe=TOKENS[:, :, P] % 2 == 0)
    return m


def stage_ppo(rng, run):
    m = model()
    ppo(m, RewardModel(m), deepcopy(m), lambda tokens, last: (tokens == 3).sum(-1) - 0.1 * last, TOKENS[:, 0, :P],
        PPOConfig(iterations=STEPS, batch_size=8, epochs=2, minibatches=2, lr=1e-2, warmup=2, kl_target=0.1,
                  kl_horizon=50, max_new_tokens=T - P), rng=rng,
        run=run, end=TOKENIZER.end)
    return m


def stage_grpo(rng, run):
    m = model()
    ppo(m, None, deepcopy(m), lambda tokens, last: (tokens == 3).sum(-1) - 0.1 * last, TOKENS[:, 0, :P],
        PPOConfig(iterations=STEPS, batch_size=8, group=4, epochs=2, lr=1e-2, warmup=2, advantage="grpo", kl="k3",
                  kl_in="loss", max_new_tokens=T - P), rng=rng, run=run, end=TOKENIZER.end)
    return m


def stage_rejection(rng, run):
    m = model()
    rejection_sampling(m, lambda tokens, last: (tokens == 3).sum(-1) - 0.1 * last, TOKENS[:, 0, :P],
                       RejectionConfig(rounds=STEPS, prompts=8, n=3, epochs=1, batch_size=4, lr=1e-2), rng=rng, run=run,
                       end=TOKENIZER.end, max_new_tokens=T - P)
    return m


def stage_dpo(rng, run):
    m = model()
    dpo(m, deepcopy(m), (TOKENS[:, 0], MASK[:, 0]), (TOKENS[:, 1], MASK[:, 1]),
        DPOConfig(epochs=3, batch_size=3, lr=1e-2, warmup=2), rng=rng, run=run)
    return m


STAGES = {name.removeprefix("stage_"): f for name, f in list(globals().items()) if name.startswith("stage_")}


def train(stage, folder=None, *, seed=0, **options):
    """(the model's tensors, what was logged) after a stage."""
    run = Run(folder, stage=stage, tokenizer=TOKENIZER, **options)
    m = STAGES[stage](np.random.default_rng(seed), run)
    return m.state_dict(), run.history


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2], resume=True, save_every=1)
