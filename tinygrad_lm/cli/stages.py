"""The stages of training, one command each, and `demo`, which does them all."""
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np

from ..checkpoint import CheckpointError
from ..train.ppo import PPOConfig
from ..train.pretrain import PretrainConfig
from ..train.reward import RewardConfig
from ..train.sft import SFTConfig
from .options import device_option, model_option, settings, stage_options


@click.command()
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


@click.command()
@click.option("--text", type=click.Path(path_type=Path), help="learn this text instead of the names (UTF-8)")
@click.option("--n-layer", default=3, show_default=True, help="blocks")
@click.option("--n-head", default=4, show_default=True, help="heads a block")
@click.option("--n-embd", default=64, show_default=True, help="channels")
@click.option("--block-size", default=32, show_default=True, help="longest sequence")
@click.option("--dropout", default=0.0, show_default=True, help="share of activations dropped in training")
@click.option("--checkpoint-blocks", is_flag=True, help="less memory, more time: backward computes each block again")
@stage_options(PretrainConfig, "runs/pretrain")
def pretrain(text, n_layer, n_head, n_embd, block_size, dropout, checkpoint_blocks, out, seed, save_every, resume, device,
             **options):
    """Stage 1: predict the next character, of names or of a text of yours."""
    from ..models import GPT, GPTConfig
    from ..text import names
    from ..train import pretrain as p
    config = settings(PretrainConfig, options)
    tokenizer, data, held_out = names_data(names) if text is None else text_data(text, block_size)
    rng = np.random.default_rng(seed)
    model = GPT(GPTConfig(len(tokenizer), block_size, n_layer, n_head, n_embd, dropout), rng=rng).to(device)
    model.checkpoint_blocks = checkpoint_blocks
    click.echo(f"{model.n_parameters():,} parameters, {len(tokenizer)} tokens in the vocabulary")
    with stage("pretrain", out, tokenizer, config, seed=seed, save_every=save_every, resume=resume) as run:
        loss = p.pretrain(model, data, held_out, config, rng=rng, run=run)
    click.echo(f"held-out loss {loss:.4f} nats = {p.bits(loss):.3f} bits a character")


def names_data(names):
    train, held_out = names.split_names(names.load_names())
    return names.tokenizer, names.plain_rows(train), names.plain_rows(held_out)


def text_data(path, block_size):
    """A text file: its first nine tenths to learn from, the last to measure on."""
    from ..text.batches import Windows
    from ..text.char import CharTokenizer
    from ..text.corpus import read_text
    text = read_text(path)
    tokenizer = CharTokenizer.from_text(text)
    ids = tokenizer.encode(text)
    cut = len(ids) * 9 // 10
    return tokenizer, Windows(ids[:cut], block_size), Windows(ids[cut:], block_size)


@click.command()
@model_option
@click.option("--examples", default=3000, show_default=True, help="prompts with a good answer")
@stage_options(SFTConfig, "runs/sft")
def sft(model_path, examples, out, seed, save_every, resume, device, **options):
    """Stage 2: instruction fine-tuning, answers to prompts such as ^k5> (a name of 5 letters with k)."""
    from ..text import names
    from ..train import road, sft as s
    config = settings(SFTConfig, options)
    model, tokenizer = load_names_model(model_path, device)
    train, held_out = names.split_names(names.load_names())
    rng, prompts = np.random.default_rng(seed), names.prompts_from(held_out)[:1000]
    before = road.obedience(road.answer(model, prompts, np.random.default_rng(seed)))
    chosen = [train[i] for i in rng.permutation(len(train))[:examples]]
    with stage("sft", out, tokenizer, config, seed=seed, save_every=save_every, resume=resume) as run:
        loss = s.sft(model, names.instruction_rows(chosen), names.instruction_rows(held_out), config, rng=rng, run=run)
    after = road.obedience(road.answer(model, prompts, np.random.default_rng(seed)))
    click.echo(f"held-out loss {loss:.4f} nats a token; obeys {before:.1%} of prompts before, {after:.1%} after")


@click.command()
@model_option
@click.option("--rankings", default=2000, show_default=True, help="prompts whose four answers are ranked")
@stage_options(RewardConfig, "runs/reward")
def reward(model_path, rankings, out, seed, save_every, resume, device, **options):
    """Stage 3a: the model answers, a simulated person ranks, a reward model learns from the ranking."""
    from ..models import RewardModel
    from ..text import names
    from ..train import reward as r, road
    config = settings(RewardConfig, options)
    model, tokenizer = load_names_model(model_path, device)
    train, held_out = names.split_names(names.load_names())
    rng = np.random.default_rng(seed)
    prompts, judged = names.prompts_from(train), names.prompts_from(held_out)[:1000]
    ranked = road.rank_answers(model, prompts[rng.permutation(len(prompts))[:rankings]], rng)
    baseline, checked = road.answer(model, judged, rng), road.rank_answers(model, judged, rng)
    scorer = RewardModel(model, rng=rng)
    with stage("reward", out, tokenizer, config, seed=seed, save_every=save_every, resume=resume) as run:
        r.train_reward(scorer, ranked, road.last_of(ranked), config, rng=rng, run=run,
                       baseline=(baseline, road.last_of(baseline)))
    scores = road.learned_scores(scorer, checked)
    click.echo(f"held-out pairs in the right order: {r.pair_accuracy(scores, road.true_scores(checked)):.1%} by the "
               f"person's true taste, {r.pair_accuracy(scores):.1%} by their noisy votes")


@click.command()
@model_option
@click.option("--reward", "reward_path", required=True, type=click.Path(path_type=Path), help="reward model's checkpoint")
@stage_options(PPOConfig, "runs/ppo")
def ppo(model_path, reward_path, out, seed, save_every, resume, device, **options):
    """Stage 3b: PPO against the learned reward, with a KL penalty to the fine-tuned model."""
    from copy import deepcopy

    from ..text import names
    from ..train import ppo as p, ppo_report, road
    config = settings(PPOConfig, options)
    tuned, tokenizer = load_names_model(model_path, device)
    scorer, _ = load_names_model(reward_path, device, "reward")
    train, held_out = names.split_names(names.load_names())
    policy, rng = deepcopy(tuned), np.random.default_rng(seed)
    with stage("ppo", out, tokenizer, config, seed=seed, save_every=min(save_every, 10), resume=resume) as run:
        try:
            p.ppo(policy, p.value_for(policy, config), tuned, road.learned_score(scorer), names.prompts_from(train), config,
                  rng=rng, run=run, end=tokenizer.end, pad=tokenizer.pad, watch=road.watch)
        finally:                                                # also of a run that has stopped itself
            ppo_report.write_page(run.history, config, out)
    judged = names.prompts_from(held_out)[:1000]
    before, after = (road.answer(m, judged, np.random.default_rng(seed)) for m in (tuned, policy))
    click.echo(f"true reward {road.true_scores(before).mean():.2f} -> {road.true_scores(after).mean():.2f}; wins "
               f"{road.win_rate(after, before):.1%} against the fine-tuned model; obeys {road.obedience(after):.1%}; "
               f"KL {run.history[-1]['kl']:.2f} nats an answer")


@contextmanager
def stage(name, out, tokenizer, config, *, seed, save_every, resume):
    """A Run with a progress bar; afterwards, where the result is and what it took."""
    from ..train.run import Run
    yield Run(out, stage=name, tokenizer=tokenizer, meta={"seed": seed, name: asdict(config)}, resume=resume,
              save_every=save_every, show=True)
    click.echo(f"saved in {out}")


def load_names_model(path, device, kind="gpt"):
    """A model that reads the naming task's alphabet, on `device`."""
    from ..models.saved import load_model
    from ..text.names import tokenizer as needed
    model, tokenizer, meta = load_model(path, kind)
    if "quantised" in meta:
        raise CheckpointError(f"{path} is quantised to {meta['quantised']}, and such weights are not trained: start from "
                              "the checkpoint that it was made from")
    if tokenizer.to_dict() != needed.to_dict():
        raise CheckpointError(f"{path} was trained on another text: this stage is about names and needs their "
                              f"{len(needed)} tokens (run `tinygrad-lm pretrain` without --text)")
    return model.to(device), tokenizer
