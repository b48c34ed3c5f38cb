"""The command line: `tinygrad-lm demo` walks the whole road; the other commands are single stages of it."""
import io
import sys

import click

from .. import mpi
from ..checkpoint import CheckpointError
from ..train.run import Stopped
from .chats import chat_mask, instructions
from .counting import correct, ngram, rank
from .data import data
from .draw import draw, report, surprise
from .exercises import exercise
from .measure import bench, evaluate, size
from .museum import museum
from .pretraining import neural, pretrain
from .serving import serve
from .stages import demo, ppo, reward, sft
from .talk import chat
from .tokens import tokenizer
from .write import merge, quantise, sample


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

    What comes before any network: `tinygrad-lm ngram`, `rank` and `correct` count letters; `neural` is the first network.
    What is large, and which card holds it: `tinygrad-lm size llama-2-7b`. At the end of the road, a model that others have
    trained: `tinygrad-lm chat`.
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
    except (CheckpointError, Stopped, mpi.MPIError, ValueError, IndexError, FloatingPointError, MemoryError) as error:
        leave(f"error: {error}", 1)


def leave(message, code):
    """Say what went wrong and leave; with all ranks, where mpirun has started several."""
    if mpi.place()[1] > 1:
        mpi.end_all(message, code)
    click.echo(message, err=True)
    sys.exit(code)


for command in (demo, pretrain, sft, reward, ppo, sample, quantise, merge, chat, serve, chat_mask, instructions, ngram,
                neural, rank, correct, tokenizer, data, size, evaluate, bench, museum, exercise, draw, surprise,
                report):
    commands.add_command(command)
