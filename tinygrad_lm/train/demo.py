"""The demo: the road from counting letters to PPO in a few minutes, judged after every stage on the same prompts."""
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from time import perf_counter
from zlib import crc32

import numpy as np

from ..models import RewardModel
from ..parallel import one_blas_thread
from ..modes import no_grad
from ..text import names
from ..text.names import MAX_ANSWER, tokenizer
from . import road
from .best_of_n import best_of_n, best_of_n_kl
from .dpo import DPOConfig, dpo
from .logprobs import answer_logprobs
from .ppo import PPOConfig, ppo, value_for
from .pretrain import PretrainConfig, bits, pretrain
from .reward import RewardConfig, pair_accuracy, train_reward
from .run import Run, make_folder
from .sft import SFTConfig, sft

SHOWN = ("^k5>", "^m7>", "^a4>", "^j6>", "^s8>")            # the prompts whose answers are shown after every stage


@dataclass(frozen=True)
class DemoConfig:
    """The sizes of every stage. The defaults take a few minutes on two cores, `FAST` well under one."""
    pretrain: PretrainConfig = PretrainConfig()
    sft: SFTConfig = SFTConfig()
    rankings: int = 2000                                    # prompts whose answers the person ranks
    reward: RewardConfig = RewardConfig()
    narrow: RewardConfig = RewardConfig(epochs=3)           # of the judge that PPO without a penalty over-optimises
    ppo: PPOConfig = PPOConfig()
    dpo: DPOConfig = DPOConfig()
    judged: int = 2000                                      # held-out prompts that every method answers


FAST = DemoConfig(pretrain=PretrainConfig(steps=250), sft=SFTConfig(steps=250), rankings=800,
                  reward=RewardConfig(epochs=2), narrow=RewardConfig(epochs=1), ppo=PPOConfig(iterations=15, warmup=3),
                  dpo=DPOConfig(epochs=1, lr=3e-4), judged=400)


@dataclass
class Results:
    """What the demo found, for the table, the figures and the page."""
    seed: int
    config: DemoConfig
    figures: dict = field(default_factory=dict)             # plain numbers, by name
    samples: dict = field(default_factory=dict)             # stage -> answers to SHOWN
    rows: list = field(default_factory=list)                # one dict a method: the table at the end
    histories: dict = field(default_factory=dict)           # stage -> what its run logged
    seconds: dict = field(default_factory=dict)             # stage -> time taken


class Demo:
    """The stages share the data, the judge's baseline, the folder and the seed; each has a generator of its own, so that
    a stage that is resumed, or run alone, draws the same numbers."""

    def __init__(self, folder, config, *, seed, resume, show, device):
        self.folder, self.config, self.seed = make_folder(folder), config, seed
        self.resume, self.show, self.device = resume, show, device
        self.results = Results(seed, config)
        train, held_out = names.split_names(names.load_names())
        self.train, self.held_out = train, held_out
        self.prompts = names.prompts_from(train)
        self.judged = names.prompts_from(held_out)[:config.judged]

    def rng(self, stage):
        return np.random.default_rng([self.seed, crc32(stage.encode())])

    def run(self, stage, config):
        return Run(self.folder / stage, stage=stage, tokenizer=tokenizer, meta={"seed": self.seed, stage: asdict(config)},
                   resume=self.resume, show=self.show)

    def finish(self, stage, run, began):
        self.results.histories[stage] = run.history
        self.results.seconds[stage] = perf_counter() - began

    def show_samples(self, stage, model):
        """Answers to the same few prompts, with the same draws, for each stage."""
        prompts = np.array([tokenizer.encode(p) for p in SHOWN])
        tokens = road.answer(model, prompts, self.rng("samples"))
        self.results.samples[stage] = [tokenizer.decode(t[names.PROMPT_LENGTH:]) for t in tokens]


def run_demo(folder, config=DemoConfig(), *, seed=0, resume=False, show=True, say=print, device="cpu"):
    """Pretrain, fine-tune, learn the reward, PPO, and PPO's rivals; returns Results. Every stage leaves a checkpoint in a
    folder of its own below `folder`; `resume` goes on behind what is already there. The models live on `device`."""
    demo = Demo(folder, config, seed=seed, resume=resume, show=show, device=device)
    with one_blas_thread():                                                     # the products are small
        with_ppo(demo, *prepared(demo, say), say)
    return demo.results


def prepared(demo, say):
    """All that PPO and its rivals start from: (fine-tuned model, reward model, the fine-tuned model's answers to the judged
    prompts, the rankings that the reward model has learned from)."""
    tuned = fine_tuned(demo, pretrained(demo, say), say)
    baseline = road.answer(tuned, demo.judged, demo.rng("baseline"))            # what every method is compared with
    asked = some(demo.prompts, demo.config.rankings, demo.rng("ask"))
    ranked = road.rank_answers(tuned, asked, demo.rng("rank"))
    return tuned, rewarded(demo, tuned, ranked, baseline, say), baseline, ranked


def pretrained(demo, say):
    c, began = demo.config.pretrain, perf_counter()
    model, run = road.new_model(demo.rng("init")).to(demo.device), demo.run("pretrain", c)
    loss = pretrain(model, names.plain_rows(demo.train), names.plain_rows(demo.held_out), c, rng=demo.rng("pretrain"), run=run)
    demo.finish("pretrain", run, began)
    demo.show_samples("pretrained", model)
    obeyed = road.obedience(road.answer(model, demo.judged, demo.rng("baseline")))
    demo.results.figures |= {"pretrain loss": loss, "bits per character": bits(loss), "obey before": obeyed}
    say(f"pretrained: {loss:.3f} nats = {bits(loss):.2f} bits a character on held-out names "
        f"(a guess among 27 costs {np.log2(27):.2f}); it obeys {obeyed:.0%} of the prompts")
    return model


def fine_tuned(demo, model, say):
    c, began = demo.config.sft, perf_counter()
    model, run, rng = deepcopy(model), demo.run("sft", c), demo.rng("sft")
    examples = [demo.train[i] for i in rng.permutation(len(demo.train))[:road.N_EXAMPLES]]
    loss = sft(model, names.instruction_rows(examples), names.instruction_rows(demo.held_out), c, rng=rng, run=run)
    demo.finish("sft", run, began)
    demo.show_samples("fine-tuned", model)
    obeyed = road.obedience(road.answer(model, demo.judged, demo.rng("baseline")))
    demo.results.figures |= {"sft loss": loss, "obey after": obeyed}
    say(f"fine-tuned: {len(examples)} examples; it obeys {obeyed:.0%} of the prompts")
    return model


def rewarded(demo, tuned, ranked, baseline, say):
    c, began, rng = demo.config.reward, perf_counter(), demo.rng("reward")
    reward, run = RewardModel(tuned, rng=rng), demo.run("reward", c)
    train_reward(reward, ranked, road.last_of(ranked), c, rng=rng, run=run, baseline=(baseline, road.last_of(baseline)))
    demo.finish("reward", run, began)
    rng = demo.rng("held-out rankings")
    broad = road.rank_answers(tuned, demo.judged[:1000], rng)
    own = np.stack([road.answer(tuned, demo.judged[:1000], rng) for _ in range(2)], axis=1)
    accuracy = {}
    for name, answers in (("broad", broad), ("own", own)):
        scores = road.learned_scores(reward, answers)
        accuracy[name] = pair_accuracy(scores, road.true_scores(answers))
        if name == "broad":
            accuracy["noisy"] = pair_accuracy(scores)
    demo.results.figures |= {f"reward accuracy, {k}": v for k, v in accuracy.items()}
    n = ranked.shape[0] * ranked.shape[1] * (ranked.shape[1] - 1) // 2
    say(f"reward model: learned from {n} ranked pairs; on held-out pairs it agrees with the person's true taste in "
        f"{accuracy['broad']:.0%} (with their noisy votes in {accuracy['noisy']:.0%})")
    return reward


def narrowly_rewarded(demo, tuned, baseline):
    """A reward model with a blind spot: it learns from half as many prompts, and only from three of the fine-tuned model's
    own answers to each, so that it has hardly ever seen an instruction broken."""
    rng, c = demo.rng("narrow"), demo.config.narrow
    asked = some(demo.prompts, demo.config.rankings // 2, rng)
    answers = np.stack([road.answer(tuned, asked, rng) for _ in range(3)], axis=1)
    ranked = road.rated(answers, rng)[0]
    reward, run, began = RewardModel(tuned, rng=rng), demo.run("narrow", c), perf_counter()
    train_reward(reward, ranked, road.last_of(ranked), c, rng=rng, run=run, baseline=(baseline, road.last_of(baseline)))
    demo.finish("narrow", run, began)
    return reward


def without_penalty(config):
    """PPO's settings for over-optimisation: no price on leaving the fine-tuned model, and bolder, so that half the
    iterations do. Nothing stops it."""
    return replace(config, kl_coef=0.0, lr=3 * config.lr, iterations=-(-config.iterations // 2), kl_stop=np.inf)


def with_ppo(demo, tuned, reward, baseline, ranked, say):
    """PPO, and on the same rewards and pairs DPO and the best of 4 and of 16; and PPO without the KL penalty on the rewards
    of a narrower judge."""
    c, score = demo.config, road.learned_score(reward)
    judge(demo, "fine-tuned", baseline, score, baseline, kl=0.0)
    narrow = road.learned_score(narrowly_rewarded(demo, tuned, baseline))
    for stage, config, climbed in (("ppo", c.ppo, score), ("ppo-no-kl", without_penalty(c.ppo), narrow)):
        began, run, policy = perf_counter(), demo.run(stage, config), deepcopy(tuned)
        ppo(policy, value_for(policy, config), tuned, climbed, demo.prompts, config, rng=demo.rng(stage), run=run,
            end=tokenizer.end, pad=tokenizer.pad, watch=road.watch)
        demo.finish(stage, run, began)
        row = judge_policy(demo, "PPO" if config.kl_coef else "PPO, no KL penalty", policy, tuned, climbed, baseline)
        demo.show_samples(row["method"], policy)
        say(f"{row['method']}: wins {row['win rate']:.0%} against the fine-tuned model at KL {row['KL']:.1f}; "
            f"learned reward {row['learned reward']:+.2f}, true reward {row['true reward']:+.2f}")
    began, run, policy = perf_counter(), demo.run("dpo", c.dpo), deepcopy(tuned)
    dpo(policy, tuned, *road.all_pairs(ranked), c.dpo, rng=demo.rng("dpo"), run=run)
    demo.finish("dpo", run, began)
    judge_policy(demo, "DPO", policy, tuned, score, baseline)
    for n in (4, 16):
        tokens = best_of_n(tuned, score, demo.judged, n, rng=demo.rng("best of n"), max_new_tokens=MAX_ANSWER,
                           end=tokenizer.end, pad=tokenizer.pad)
        judge(demo, f"best of {n}", tokens, score, baseline, kl=best_of_n_kl(n))


def judge_policy(demo, method, policy, tuned, score, baseline):
    """A row of the table for a trained policy; its KL is measured on its own answers, in nats an answer."""
    tokens = road.answer(policy, demo.judged, demo.rng("judge"))
    mask = road.mask_of(tokens)
    with no_grad():
        kl = float((answer_logprobs(policy, tokens, mask).numpy() - answer_logprobs(tuned, tokens, mask).numpy()).mean())
    return judge(demo, method, tokens, score, baseline, kl)


def judge(demo, method, tokens, score, baseline, kl):
    row = {"method": method, "win rate": road.win_rate(tokens, baseline), "true reward": road.true_scores(tokens).mean(),
           "learned reward": float(score(tokens, road.last_of(tokens)).mean()), "KL": kl, "obeys": road.obedience(tokens)}
    demo.results.rows.append(row)
    return row


def some(prompts, n, rng):
    """n of the prompts, drawn without repetition."""
    return prompts[rng.permutation(len(prompts))[:n]]
