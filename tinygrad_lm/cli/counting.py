"""What a language model is before any network: count, rank sentences, correct spelling."""
from pathlib import Path

import click
import numpy as np

from .options import source, source_options


@click.command(short_help="count what follows what: perplexity and a sample")
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

    from ..models import ngram as n
    from ..text.char import CharTokenizer
    from ..text.letters import LetterTokenizer
    from ..text.stories import split
    from ..text.words import WordTokenizer
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


@click.command(short_help="which of several sentences is most probable")
@click.argument("sentences", nargs=-1)
@source_options
@click.option("--model", "model_path", type=click.Path(path_type=Path), help="a GPT's checkpoint or run folder")
@click.option("--order", default=7, show_default=True, help="letters in a row that are counted")
def rank(sentences, text, language, model_path, order):
    """Order sentences by their probability: which of several translations would one say? Without sentences: those that come
    with the package, and how often the right one comes first."""
    from ..models.language_model import rank as by_probability
    from ..models.ngram import NGram
    from ..text.letters import LetterTokenizer
    from ..text.stories import translations
    items = [(None, list(sentences))] if sentences else translations(language)
    if model_path is not None:
        from ..models.network import load_network
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


@click.command(short_help="correct the spelling of a sentence")
@click.argument("sentence", required=False)
@source_options
@click.option("--order", default=7, show_default=True, help="letters in a row that are counted")
@click.option("--rate", default=0.1, show_default=True, help="share of words that are mistyped")
@click.option("--seed", default=0, show_default=True, help="of the misspellings that the corrector is scored on")
def correct(sentence, text, language, order, rate, seed):
    """Correct the spelling of a sentence. Without one: of held-out text that a seeded noise has misspelt, with the score."""
    from ..text.stories import split
    from ..text.noise import misspell_text
    from ..text.spelling import learn_corrector, score
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
