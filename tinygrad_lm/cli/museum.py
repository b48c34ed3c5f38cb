"""The bug museum: look at bugs that nobody notices, and write the test that does."""
from pathlib import Path

import click

from ..checkpoint import write


@click.group(short_help="bugs that nobody notices: write the test that does")
def museum():
    """Bugs that run, learn, and raise no error; the exercise is a test that notices."""


@museum.command("list")
def museum_list():
    """The exhibits."""
    from ..museum import NAMES, exhibit
    for name in NAMES:
        click.echo(f"{name:<14} {exhibit(name).TITLE}")


@museum.command("show")
@click.argument("name")
@click.option("--answer", is_flag=True, help="also the test that notices it")
def museum_show(name, answer):
    """What goes wrong in NAME, and the wrong function."""
    from inspect import getsource

    from ..museum import exhibit
    room = exhibit(name)
    click.echo(f"{room.TITLE}\n\n{room.__doc__.strip()}\n\nIn the place of "
               f"{room.right.__module__}.{room.right.__qualname__}:\n")
    click.echo(getsource(room.wrong))
    if answer:
        click.echo(getsource(room.test))
    else:
        click.echo(f"Write a file with a function test_…() that this fails, then: tinygrad-lm museum check {name} FILE")


@museum.command("plot")
@click.argument("name", required=False)
@click.option("--out", default="runs/museum", show_default=True, type=click.Path(path_type=Path),
              help="folder for the figure")
def museum_plot(name, out):
    """The symptom of NAME beside the right run; of all of them, where it is left out."""
    from ..museum import NAMES, exhibit
    from ..museum.wall import figure
    from ..train.report import png
    from ..train.run import make_folder
    if name is not None:
        exhibit(name)
    path = make_folder(out) / f"{name or 'museum'}.png"
    data = png(figure(NAMES if name is None else (name,)))
    write(path, data)
    click.echo(f"saved in {path}")


@museum.command("check")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seconds", default=60.0, show_default=True, help="that the tests may take")
def museum_check(name, file, seconds):
    """Does the test in FILE kill the bug NAME, and pass on the reference?

    FILE is Python, and runs in a process of its own, once with the right function and once with the wrong one.
    """
    from ..museum.grade import check
    killed, why = check(name, file, seconds=seconds)
    click.echo(("killed: " if killed else "not yet: ") + why)
    if not killed:
        raise SystemExit(1)
