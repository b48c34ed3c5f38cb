"""The stages of tuning, one command each, and `demo`, which does them all, pretraining among them."""
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np

from ..checkpoint import CheckpointError
from ..train.ppo import PPOConfig
from ..train.reward import RewardConfig
from ..train.sft import SFTConfig
from .options import device_option, model_option, settings, stage_options


@click.command(short_help="all four stages on given names, in a few minutes")
@click.option("--out", default="runs/demo", show_default=True, type=click.Path(path_type=Path), help="the run's folder")
@click.option("--seed", default=0, show_default=True, help="the same seed gives the same bits")
@click.option("--fast", is_flag=True, help="smaller stages, under 45 seconds")
@click.option("--resume", is_flag=True, help="go on behind the stages and steps that are already in --out")
@device_option
def demo(out, seed, fast, resume, device):
    """All four stages on given names, samples after each, and a report: table, figures, HTML page."""
    from ..train.demo import FAST, DemoConfig, run_demo
    from ..train.demo_report import write_report
    results = run_demo(out, FAST if fast else DemoConfig(), seed=seed, resume=resume, say=click.echo, device=device)
    write_report(results, out)


@click.command(short_help="stage 2: learn to do what a prompt asks")
@model_option
@click.option("--data", type=click.Path(path_type=Path), help="conversations instead of names: JSONL, chat or Alpaca")
@click.option("--show", default=0, help="conversations to print before, what is learned of them on green")
@click.option("--examples", default=3000, show_default=True, help="prompts with a good answer (names only)")
@click.option("--lora", type=click.IntRange(1),
              help="train low-rank adapters of this rank, and the embedding, whose marks of "
                   "a prompt are new; with --lr about 1e-2")
@stage_options(SFTConfig, "runs/sft")
def sft(model_path, data, show, examples, lora, out, seed, save_every, resume, device, **options):
    """Stage 2: instruction fine-tuning, answers to prompts such as ^k5> (a name of 5 letters with k), or with --data to
    instructions of yours: {"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}]} or
    {"instruction": …, "input": …, "output": …} a line."""
    config = settings(SFTConfig, options)
    run = dict(seed=seed, save_every=save_every, resume=resume)
    if data is None:
        sft_names(model_path, examples, lora, out, device, config, run)
    else:
        sft_conversations(model_path, data, show, lora, out, device, config, run)


def adapted(model, lora, rng):
    """The model with adapters that alone learn, and the embedding, where --lora asks for them."""
    from ..models.lora import add_adapters
    if lora:
        add_adapters(model, lora, rng=rng).wte.weight.requires_grad = True
    return model


def sft_names(model_path, examples, lora, out, device, config, run):
    from ..text import names
    from ..train import road, sft as s
    from ..train.samples import writer
    model, tokenizer = load_names_model(model_path, device)
    train, held_out = names.split_names(names.load_names())
    rng, prompts = np.random.default_rng(run["seed"]), names.prompts_from(held_out)[:1000]
    model = adapted(model, lora, rng)
    before = road.obedience(road.answer(model, prompts, np.random.default_rng(run["seed"])))
    chosen = [train[i] for i in rng.permutation(len(train))[:examples]]
    samples = writer(tokenizer, prompts[:5], n=names.MAX_ANSWER, end=tokenizer.end, seed=run["seed"])
    with stage("sft", out, tokenizer, config, samples=samples, **run) as r:
        loss = s.sft(model, names.instruction_rows(chosen), names.instruction_rows(held_out), config, rng=rng, run=r)
    after = road.obedience(road.answer(model, prompts, np.random.default_rng(run["seed"])))
    click.echo(f"held-out loss {loss:.4f} nats a token; obeys {before:.1%} of prompts before, {after:.1%} after")


def sft_conversations(model_path, path, show, lora, out, device, config, run):
    from ..models.grown import ready_to_chat
    from ..text.batches import pack
    from ..text.conversations import read_conversations, render_all
    from ..text.show import show_learned
    from ..text.stories import split
    from ..train import sft as s
    from ..train.samples import asked, writer
    rng = np.random.default_rng(run["seed"])
    conversations = read_conversations(path)
    model, tokenizer, template = ready_to_chat(*load_to_train(model_path), rng=rng)
    model, T = adapted(model, lora, rng), model.config.block_size
    examples, counts = render_all(conversations, tokenizer, template, room=T + 1)
    became = (f"{len(conversations):,} conversations: {counts['whole']:,} whole, {counts['shortened']:,} shortened and "
              f"{counts['dropped']:,} dropped, for the model reads {T:,} tokens")
    if len(examples) < 10:
        raise ValueError(f"{path} has {became}: at least 10 are needed, of which one in 10 is kept apart to measure on")
    for example in examples[:show]:
        show_learned(tokenizer, example.ids, example.learned)
    learned, held_out = (pack(part, T) for part in split(examples))
    click.echo(f"{became}; in {len(learned.idx):,} rows to learn from, {learned.filled:.0%} full, and {len(held_out.idx):,} "
               "held out")
    samples = writer(tokenizer, asked(split(examples)[1][:3]), n=100, end=tokenizer.id_of(template.end), seed=run["seed"])
    with stage("sft", out, tokenizer, config, samples=samples, **run) as r:
        loss = s.sft(model.to(device), learned, held_out, config, rng=rng, run=r)
    click.echo(f"held-out loss {loss:.4f} nats a token of an answer; talk with it: tinygrad-lm chat {out}")


@click.command(short_help="stage 3a: learn from rankings what is preferred")
@model_option
@click.option("--rankings", default=2000, show_default=True, help="prompts whose four answers are ranked")
@click.option("--safety", is_flag=True, help="learn which answers are safe (have no 'an') instead of which are preferred")
@stage_options(RewardConfig, "runs/reward")
def reward(model_path, rankings, safety, out, seed, save_every, resume, device, **options):
    """Stage 3a: the model answers, a simulated person ranks, a reward model learns from the ranking.

    With --safety it learns how probable it is that an answer is safe: the second reward of `ppo --safety`.
    """
    from ..models import RewardModel
    from ..text import names
    from ..train import reward as r, road
    from ..train.samples import scorer as shows
    config = settings(RewardConfig, options)
    model, tokenizer = load_names_model(model_path, device)
    train, held_out = names.split_names(names.load_names())
    rng = np.random.default_rng(seed)
    prompts, judged = names.prompts_from(train), names.prompts_from(held_out)[:1000]
    ranked, ratings = road.rate_answers(model, prompts[rng.permutation(len(prompts))[:rankings]], rng)
    baseline, checked = road.answer(model, judged, rng), road.rank_answers(model, judged, rng)
    scorer = RewardModel(model, rng=rng)
    learned = {"safe": road.safe(ranked)} if safety else {"ratings": ratings, "baseline": (baseline, road.last_of(baseline))}
    with stage("safety" if safety else "reward", out, tokenizer, config, seed=seed, save_every=save_every,
               resume=resume, samples=shows(tokenizer, checked[0])) as run:
        r.train_reward(scorer, ranked, road.last_of(ranked), config, rng=rng, run=run, **learned)
    click.echo((how_safe if safety else how_preferred)(scorer, checked))


def how_preferred(scorer, ranked):
    """What a reward model is worth, on held-out rankings."""
    from ..train import calibration as c, reward as r, road
    scores, true = road.learned_scores(scorer, ranked), road.true_scores(ranked)
    said, order = c.preferences(scores * scorer.std.numpy())
    error = c.calibration_error(said, c.true_preferences(true, order), bins=20)
    return (f"held-out pairs in the right order: {r.pair_accuracy(scores, true):.1%} by the person's true taste, "
            f"{r.pair_accuracy(scores):.1%} by their noisy votes; how sure it is of a pair is off by {error:.1%} on average")


def how_safe(scorer, answers):
    """What a safety model is worth, on held-out answers."""
    from ..train import calibration as c, road
    from ..train.safety import THRESHOLD, sigmoid
    said, safe = sigmoid(road.learned_scores(scorer, answers)), road.safe(answers)
    caught = f"{(said < THRESHOLD)[~safe].mean():.1%} of the unsafe" if not safe.all() else "and none is unsafe"
    return (f"held-out answers told safe or unsafe rightly: {((said > 0.5) == safe).mean():.1%}; below the threshold of "
            f"{THRESHOLD} are {caught}; the probability is off by {c.calibration_error(said, safe):.1%} on average")


@click.command(short_help="stage 3b: climb that reward, with a KL penalty")
@model_option
@click.option("--reward", "reward_path", required=True, type=click.Path(path_type=Path), help="reward model's checkpoint")
@click.option("--safety", "safety_path", type=click.Path(path_type=Path),
              help="checkpoint of `reward --safety`: two rewards by Llama 2's rule")
@stage_options(PPOConfig, "runs/ppo")
def ppo(model_path, reward_path, safety_path, out, seed, save_every, resume, device, **options):
    """Stage 3b: PPO against the learned reward, with a KL penalty to the fine-tuned model."""
    from copy import deepcopy

    from ..text import names
    from ..train import ppo as p, road
    from ..train.samples import writer
    config = settings(PPOConfig, options)
    tuned, tokenizer = load_names_model(model_path, device)
    train, held_out = names.split_names(names.load_names())
    judged = names.prompts_from(held_out)[:1000]
    score = score_of(reward_path, safety_path, device, tuned, judged, seed)
    policy, rng = deepcopy(tuned), np.random.default_rng(seed)
    samples = writer(tokenizer, judged[:5], n=config.max_new_tokens, end=tokenizer.end, seed=seed)
    with stage("ppo", out, tokenizer, config, seed=seed, save_every=min(save_every, 10), resume=resume,
               samples=samples) as run:
        p.ppo(policy, p.value_for(policy, config), tuned, score, names.prompts_from(train), config, rng=rng, run=run,
              end=tokenizer.end, pad=tokenizer.pad, watch=road.watch)
    before, after = (road.answer(m, judged, np.random.default_rng(seed)) for m in (tuned, policy))
    click.echo(f"true reward {road.true_scores(before).mean():.2f} -> {road.true_scores(after).mean():.2f}; wins "
               f"{road.win_rate(after, before):.1%} against the fine-tuned model; obeys {road.obedience(after):.1%}; "
               f"KL {run.history[-1]['kl']:.2f} nats an answer; unsafe {1 - road.safe(before).mean():.1%} -> "
               f"{1 - road.safe(after).mean():.1%}")


def score_of(reward_path, safety_path, device, tuned, prompts, seed):
    """What PPO climbs: the reward model, or it and the safety model by Llama 2's rule, whitened on safe answers of the
    tuned model."""
    from ..train import road
    from ..train.safety import combined_score, llama2_rule
    helpful, _ = load_names_model(reward_path, device, "reward")
    if safety_path is None:
        return road.learned_score(helpful)
    safety, _ = load_names_model(safety_path, device, "reward")
    answers = road.answer(tuned, prompts, np.random.default_rng(seed))
    return combined_score(llama2_rule, helpful, safety, (answers, road.last_of(answers)))


@contextmanager
def stage(name, out, tokenizer, config, *, seed, save_every, resume, samples=None):
    """A Run with a progress bar; afterwards, also where it was broken off, its page, and where the result is."""
    from ..train.run import Run
    from ..train.run_page import write_page
    run = Run(out, stage=name, tokenizer=tokenizer, meta={"seed": seed, name: asdict(config)}, resume=resume,
              save_every=save_every, show=True, samples=samples)
    try:
        yield run
    finally:
        if run.first and run.saved:
            write_page(out)
    click.echo(f"saved in {out}, and its curves in {Path(out) / 'report.html'}")


def load_to_train(path, kind="gpt"):
    """(model, tokenizer) of a checkpoint, whose weights are not quantised."""
    from ..models.saved import load_model
    model, tokenizer, meta = load_model(path, kind)
    if "quantised" in meta:
        raise CheckpointError(f"{path} is quantised to {meta['quantised']}, and such weights are not trained: start from "
                              "the checkpoint that it was made from")
    return model, tokenizer


def load_names_model(path, device, kind="gpt"):
    """A model that reads the naming task's alphabet, on `device`."""
    from ..text.names import tokenizer as needed
    model, tokenizer = load_to_train(path, kind)
    if tokenizer.to_dict() != needed.to_dict():
        raise CheckpointError(f"{path} was trained on another text: this stage is about names and needs their "
                              f"{len(needed)} tokens (run `tinygrad-lm pretrain` without --text, or fine-tune it with "
                              "`sft --data`)")
    return model.to(device), tokenizer
