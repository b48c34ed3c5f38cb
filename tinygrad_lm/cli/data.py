"""Texts that others have published, fetched by you and for you: their licence is shown before anything comes."""
from pathlib import Path

import click


@click.group(short_help="texts to learn from: list them, fetch one")
def data():
    """Fetch published texts and tokenizers: with their licence, checked, and only once.

    They are kept in ~/.cache/tinygrad_lm; the environment's XDG_CACHE_HOME or TINYGRAD_LM_DATA moves them.
    """


@data.command("list")
def data_list():
    """What can be fetched, what it is good for, and what comes with the package."""
    from ..text import known_texts as k
    from ..text.fetch import is_there
    for name, text in k.KNOWN.items():
        here = all(is_there(f, k.cache() / name) for f in text.files)
        click.echo(f"{name:<16} {megabytes(text.size):>8}  {text.licence:<15} {'fetched' if here else ''}".rstrip())
        click.echo(f"    {text.good_for}\n    {text.source}")
    click.echo("\nwith the package, no network needed:")
    for name, (_, good_for) in k.SHIPPED.items():
        click.echo(f"{name:<16} {good_for}")


@data.command("get")
@click.argument("name")
@click.option("--to", type=click.Path(path_type=Path), help="a folder that gets a copy")
def data_get(name, to):
    """Fetch NAME, unless it was fetched before."""
    from ..text import known_texts as k
    from ..text.fetch import fetch, is_there
    if name in k.SHIPPED:
        paths = [k.shipped(name)]
        click.echo(f"{name} comes with the package: {paths[0]}")
    else:
        text, folder = k.known(name), k.cache() / name
        click.echo(f"{name}: {text.good_for}\n  licence: {text.licence}\n  source:  {text.source}")
        paths = []
        for file in text.files:
            if is_there(file, folder):
                click.echo(f"  {folder / file.name}: fetched before, sha256 {file.sha256[:16]}… as expected")
                paths.append(folder / file.name)
                continue
            click.echo(f"  from:    {file.address}, {megabytes(file.size)}")
            with click.progressbar(length=file.size, label=f"  {file.name}") as bar:
                paths.append(fetch(file, folder, advance=bar.update))
            click.echo(f"  sha256 {file.sha256} as expected; saved as {paths[-1]}")
    if to is not None:
        copy(paths, to)


def copy(paths, folder):
    """The files in another folder, too, each whole or not at all."""
    from ..checkpoint import replace
    for path in paths:
        try:
            replace(folder / path.name, path.read_bytes())
        except OSError as error:
            raise ValueError(f"cannot write {folder / path.name}: {error.strerror}") from None
        click.echo(f"  copied to {folder / path.name}")


@data.command("path")
@click.argument("name")
def data_path(name):
    """Where NAME lies, for other commands: --text "$(tinygrad-lm data path tinyshakespeare)"; of several files, a folder."""
    from ..text import known_texts as k
    from ..text.fetch import is_there
    if name in k.SHIPPED:
        return click.echo(k.shipped(name))
    text, folder = k.known(name), k.cache() / name
    for file in text.files:
        if not is_there(file, folder):
            other = f", or not the file that it was ({folder / file.name})" if (folder / file.name).exists() else ""
            raise ValueError(f"{name} was not fetched yet{other}: tinygrad-lm data get {name}")
    click.echo(folder / text.files[0].name if len(text.files) == 1 else folder)


def megabytes(n):
    return f"{n / 1e6:.1f} MB"
