"""What several commands ask for: the device, the model, the text, and the flags that every stage of training has."""
from dataclasses import fields
from pathlib import Path
from typing import get_args

import click

from .. import mpi
from ..backend import DEVICES, why_no_cuda


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
            flag = f"--{f.name.replace('_', '-')}"
            flag, kind = (f"{flag}/--no-{flag[2:]}", None) if f.type is bool else (flag, f.type)
            kind = click.Choice(get_args(f.type)) if get_args(f.type) else kind         # Literal["this", "that"]
            command = click.option(flag, type=kind, default=f.default, show_default=True, help=HELP[f.name])(command)
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
    "weight_decay": "pull of the weights towards 0", "max_norm": "longest gradient; a longer one is scaled down; inf: none is",
    "eval_every": "steps between measurements on held-out text", "epochs": "passes over the data",
    "iterations": "rounds of answering and learning", "minibatches": "parts a batch is learned in",
    "group": "answers to each prompt of a batch", "adam_eps": "epsilon of Adam",
    "kl_coef": "price of leaving the fine-tuned model, beta; 0: none",
    "kl": "estimator of the KL that is the penalty", "kl_in": "where the penalty stands",
    "kl_target": "KL that beta is adapted to hold; 0: beta stays", "kl_horizon": "answers over which beta adapts",
    "kl_stop": "KL at which the run gives up; inf: never",
    "advantage": "against a value model (gae), or the other answers to the prompt (rloo, grpo: with --group)",
    "shared": "the value is a head on the policy's own trunk", "value_coef": "weight of the value loss on a shared trunk",
    "whiten_rewards": "divide rewards by their standard deviation", "whiten_advantages": "mean 0 and standard deviation 1",
    "gamma": "discount of later rewards",
    "lam": "lambda of generalised advantage estimation", "clip": "how far a probability ratio may move, epsilon; inf: free",
    "value_clip": "how far a value may move in an iteration; inf: free", "temperature": "of the answers that are learned from",
    "margin": "least difference of two answers' rewards, by how much better one is: none, small, large",
    "label_coef": "with --safety: weight of each answer's own label beside the pairs",
    "no_end_reward": "reward of an answer that does not end", "max_new_tokens": "longest answer",
}

model_option = click.option("--model", "model_path", required=True, type=click.Path(path_type=Path),
                            help="checkpoint or run folder to start from")


def settings(config, options):
    """The flags that belong to a configuration, as that configuration."""
    return config(**{f.name: options[f.name] for f in fields(config)})


def source_options(command):
    """The flags that say which text a model counts."""
    command = click.option("--language", default="en", show_default=True, type=click.Choice(["en", "ko"]),
                           help="learn the stories that come with the package, in English or Korean")(command)
    return click.option("--text", type=click.Path(path_type=Path), help="learn this text instead (UTF-8)")(command)


def source(text, language):
    """The paragraphs of the text that is meant."""
    from ..text import corpus, stories
    return stories.paragraphs(stories.stories(language) if text is None else corpus.read_text(text))
