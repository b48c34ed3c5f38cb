"""The whole road on one task, names: what each stage is given, and how its result is judged."""
import numpy as np

from ..generate import generate
from ..models import GPT, GPTConfig
from ..text import names, person
from ..text.batches import answer_mask, last_token
from ..text.names import MAX_ANSWER, PROMPT_LENGTH, tokenizer
from .reward import score_answers

WIDTH = PROMPT_LENGTH + MAX_ANSWER              # tokens of a prompt and the longest answer
N_EXAMPLES = 3000                               # prompts with a good answer, for fine-tuning


def new_model(rng):
    """The demo's GPT: 150,000 parameters."""
    return GPT(GPTConfig(len(tokenizer), block_size=32, n_layer=3, n_head=4, n_embd=64), rng=rng)


def answer(model, prompts, rng, *, temperature=1.0):
    """One answer to each prompt, with the prompt before it and padding behind: int (N, WIDTH)."""
    return widen(generate(model, prompts, MAX_ANSWER, rng=rng, temperature=temperature, end=tokenizer.end,
                          pad=tokenizer.pad).tokens)


def widen(tokens):
    """Padding on the right, up to WIDTH columns: (N, T) -> (N, WIDTH)"""
    return np.pad(tokens, [(0, 0), (0, WIDTH - tokens.shape[1])], constant_values=tokenizer.pad)


def mask_of(tokens):
    """Where the answers are: (..., WIDTH) -> bool (..., WIDTH)"""
    return answer_mask(tokens.reshape(-1, WIDTH), PROMPT_LENGTH, tokenizer.end).reshape(tokens.shape)


def last_of(tokens):
    """The index of each answer's last token: (..., WIDTH) -> int (...)"""
    return last_token(mask_of(tokens).reshape(-1, WIDTH)).reshape(tokens.shape[:-1])


def true_scores(tokens):
    """What the simulated person really thinks: (..., WIDTH) -> float (...)"""
    return person.scores(*names.read_answers(tokens.reshape(-1, WIDTH))).reshape(tokens.shape[:-1])


def safe(tokens):
    """Which answers are safe, by their letters: (..., WIDTH) -> bool (...)"""
    flat = tokens.reshape(-1, WIDTH)
    letters = [tokenizer.decode(row[m]) for row, m in zip(flat, mask_of(flat))]
    return np.array([person.is_safe(word) for word in letters]).reshape(tokens.shape[:-1])


def obedience(tokens):
    """The share of answers with the first letter and the length that were asked for."""
    return float(np.mean([names.obeys(p, a) for p, a in zip(*names.read_answers(tokens))]))


def candidates(model, prompts, rng):
    """Four answers to each prompt: int (N, 4, WIDTH).

    Two are drawn at temperature 1, one at 1.4, and one was given to another prompt, so that the reward model also sees
    what it is like when an instruction is broken.
    """
    warm, again = answer(model, prompts, rng), answer(model, prompts, rng)
    hot, other = answer(model, prompts, rng, temperature=1.4), answer(model, rng.permutation(prompts), rng)
    other[:, :PROMPT_LENGTH] = prompts
    return np.stack([warm, again, hot, other], axis=1)


def rank_answers(model, prompts, rng):
    """The model answers each prompt four times and the person ranks them: int (N, 4, WIDTH), best first."""
    return rate_answers(model, prompts, rng)[0]


def rate_answers(model, prompts, rng):
    """The same, and how much better the better one of each pair is, 0 to 3: int (N, 4, WIDTH), int (N, 6)."""
    return rated(candidates(model, prompts, rng), rng)


def rated(tokens, rng):
    """Answers int (N, K, WIDTH) in the order in which the person puts them, best first, and the ratings of their pairs."""
    order, ratings = person.rank(true_scores(tokens), rng)
    return np.take_along_axis(tokens, order[..., None], axis=1), ratings


def all_pairs(ranked):
    """The pairs of ranked answers (N, K, WIDTH), one under another: (better, worse), each (tokens, mask)."""
    i, j = np.triu_indices(ranked.shape[1], k=1)
    better, worse = ranked[:, i].reshape(-1, WIDTH), ranked[:, j].reshape(-1, WIDTH)
    return (better, mask_of(better)), (worse, mask_of(worse))


def learned_scores(reward, tokens):
    """What a RewardModel thinks: (..., WIDTH) -> float (...)"""
    scores = score_answers(reward, tokens.reshape(-1, WIDTH), last_of(tokens).reshape(-1))
    return scores.reshape(tokens.shape[:-1])


def learned_score(reward):
    """A RewardModel as the function (tokens, last) -> rewards that PPO and best-of-n ask for."""
    return lambda tokens, last: score_answers(reward, tokens, last)


def win_rate(tokens, baseline):
    """How often the person, without noise, prefers `tokens` to `baseline`; a tie counts half."""
    a, b = true_scores(tokens), true_scores(baseline)
    return float(((a > b) + 0.5 * (a == b)).mean())


def watch(tokens):
    """What PPO's log shows besides: the true reward, which nothing learns from, and obedience."""
    tokens = widen(tokens)
    return {"true_reward": true_scores(tokens).mean(), "obey": obedience(tokens)}
