"""Pictures: of a run, of what a model computes, of what it expects."""
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def report(folder):
    """Make a run's page again, report.html, from the checkpoint and the notes in its FOLDER."""
    from ..train.run_page import write_page
    click.echo(f"written: {write_page(folder)}")
