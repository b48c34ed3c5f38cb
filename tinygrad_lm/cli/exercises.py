"""Exercises: write a function of this library yourself, and be told what is wrong with it."""
import json
from pathlib import Path

import click

from ..checkpoint import write

folder_option = click.option("--folder", default="exercises", show_default=True, type=click.Path(path_type=Path),
                             help="where your files are")


@click.group(short_help="write a function yourself, and be told what is wrong")
def exercise():
    """Functions of this library to write yourself, and tests that must notice a bug.

    \b
      tinygrad-lm exercise start 1         # a file with what you need to know, and a function to fill in
      tinygrad-lm exercise check 1         # which property fails, and the smallest input that breaks it
      tinygrad-lm exercise hint 1          # one more hint each time
    """


@exercise.command("list", short_help="all of them, and which you have started")
@folder_option
def exercise_list(folder):
    """All of them, and which you have started."""
    from ..exercises import is_test, names
    from ..exercises.sheet import file_name, title
    for number, name in enumerate(names(), 1):
        mark = "·" if (folder / file_name(name)).exists() else " "
        click.echo(f"{mark} {number:02}  {name:<19} {'write the test: ' if is_test(name) else ''}{title(name)}")


@exercise.command("start", short_help="the file of exercise NN, in your folder")
@click.argument("which", metavar="NN")
@folder_option
def exercise_start(which, folder):
    """Write the file of exercise NN (a number or a name) into your folder. A file that is there is never overwritten."""
    from ..exercises import find
    from ..exercises.sheet import file_name, sheet
    from ..train.run import make_folder
    number, name = find(which)
    path = make_folder(folder) / file_name(name)
    if path.exists():
        raise ValueError(f"{path} is there already, and is yours: rename or remove it to start anew")
    write(path, sheet(name).encode())
    click.echo(f"{path}: read it, fill it in, then: tinygrad-lm exercise check {number}")


@exercise.command("check", short_help="is it right? if not, what is wrong")
@click.argument("which", metavar="NN")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@folder_option
@click.option("--seconds", default=60, show_default=True, type=click.IntRange(1, 86_400), help="that it may take")
def exercise_check(which, file, folder, seconds):
    """Grade exercise NN: your file in the folder, or FILE. It runs in a process of its own."""
    from ..exercises import find
    from ..exercises.grade import check
    from ..exercises.sheet import file_name, following, title
    number, name = find(which)
    file = file or folder / file_name(name)
    if not file.exists():
        raise ValueError(f"there is no {file}: tinygrad-lm exercise start {number} writes it")
    found = check(name, file, seconds=seconds)
    click.echo(f"{number:02} {title(name)}: {'right' if found.right else 'not yet'}")
    for line in found.lines:
        click.echo(line)
    if found.printed:
        click.echo("\nYour code printed:\n" + found.printed)
    if not found.right:
        raise SystemExit(1)
    after = following(name)
    click.echo(f"Next: tinygrad-lm exercise start {find(after)[0]}" if after else "That was the last one.")


@exercise.command("hint", short_help="one more hint each time")
@click.argument("which", metavar="NN")
@folder_option
def exercise_hint(which, folder):
    """One more hint for exercise NN each time, the last nearly the answer; then they begin again."""
    from ..exercises import find
    from ..exercises.sheet import hints
    from ..train.run import make_folder
    number, name = find(which)
    path = make_folder(folder) / ".hints.json"
    try:
        given = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        given = {}
    steps = hints(name)
    step = given.get(name, 0) % len(steps)
    click.echo(f"{number:02}, hint {step + 1} of {len(steps)}: {steps[step]}")
    write(path, json.dumps(given | {name: step + 1}).encode())


@exercise.command("solution", short_help="the reference's source")
@click.argument("which", metavar="NN")
def exercise_solution(which):
    """The reference's source."""
    from ..exercises import find
    from ..exercises.sheet import solution
    click.echo(solution(find(which)[1]).strip())


@exercise.command("export", short_help="for teachers: all files, and what grades them")
@click.argument("folder", type=click.Path(path_type=Path))
def exercise_export(folder):
    """For teachers: all files without solutions in FOLDER, and a pytest file that grades them and writes results.json."""
    from ..exercises.handout import handout
    from ..train.run import make_folder
    make_folder(folder)
    files = handout()
    present = [name for name in files if (folder / name).exists()]
    if present:
        raise ValueError(f"{folder} has {present[0]} already: give a folder that is new or empty")
    for name, text in files.items():
        write(folder / name, text.encode())
    click.echo(f"{len(files)} files in {folder}; grade what learners hand in: python -m pytest {folder}")
