"""Texts and tokenizers to learn from that others have published: where they lie, what they are, and who allows what."""
import os
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple


class File(NamedTuple):
    """One file: what it is called here, its address, and what tells whether it is the right one."""
    name: str
    address: str
    sha256: str
    size: int                                   # bytes


class Known(NamedTuple):
    """A published text, which may be several files."""
    files: tuple
    licence: str
    source: str
    good_for: str

    @property
    def size(self):
        return sum(f.size for f in self.files)


RAW, GPT2 = "https://raw.githubusercontent.com", "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main"
# Checksums are those of the files that this project measures with, and nsmc's is one that others publish for the address.
KNOWN = {
    "tinyshakespeare": Known(
        (File("tinyshakespeare.txt", f"{RAW}/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
              "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed", 1_115_394),),
        "public domain", "William Shakespeare; put together by Andrej Karpathy, github.com/karpathy/char-rnn",
        "plays, 65 different characters: what small models are usually compared on"),
    "nsmc": Known(
        (File("ratings_train.txt", f"{RAW}/e9t/nsmc/master/ratings_train.txt",
              "e03b7d14e9e41be8d464a28057cd25d7396c53e67aa7fd5f7e552c59b0ee2940", 14_628_807),),
        "CC0 1.0", "Naver sentiment movie corpus by Lucy Park, github.com/e9t/nsmc",
        "150,000 Korean film reviews, half of them good (columns id, document, label, with tabs): tokenizers, sentiment"),
    "chatbot-ko": Known(
        (File("ChatbotData.csv", f"{RAW}/songys/Chatbot_data/master/ChatbotData.csv",
              "287eb129695b577321c80ad397bb3c2279164d4ca577874d129fd3db5b30afe2", 889_842),),
        "MIT", "Chatbot_data by Youngsook Song, github.com/songys/Chatbot_data",
        "11,823 Korean questions with an answer (CSV: Q, A, label): fine-tuning"),
    "gpt2": Known(
        (File("vocab.json", f"{GPT2}/encoder.json",
              "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783", 1_042_301),
         File("merges.txt", f"{GPT2}/vocab.bpe",
              "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5", 456_318)),
        "MIT (modified)", "GPT-2 by OpenAI, github.com/openai/gpt-2",
        "GPT-2's tokenizer, 50,257 tokens: --tokenizer takes the folder"),
}
SHIPPED = {
    "names": ("names.tsv", "32,000 given names with their counts"),
    "stories-en": ("stories_en.txt", "short stories in English, 29 kB"),
    "stories-ko": ("stories_ko.txt", "short stories in Korean, 31 kB"),
}


def known(name):
    """The Known text of this name; a ValueError with the names that there are."""
    if name not in KNOWN:
        near = get_close_matches(name, [*KNOWN, *SHIPPED], n=1)
        raise ValueError(f"no text {name!r} is known" + (f", did you mean {near[0]}?" if near else "") +
                         f" Known are {', '.join(KNOWN)}; with the package come {', '.join(SHIPPED)}")
    return KNOWN[name]


def shipped(name):
    """The path of a text that comes with the package."""
    return Path(str(files("tinygrad_lm") / "data" / SHIPPED[name][0]))


def cache():
    """The folder for what was fetched: TINYGRAD_LM_DATA, or tinygrad_lm within XDG_CACHE_HOME, or within ~/.cache."""
    if moved := os.environ.get("TINYGRAD_LM_DATA"):
        return Path(moved)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinygrad_lm"
