"""A text in the terminal as a tokenizer sees it: a colour a token, its id, its bytes; what is learned of a conversation."""
from itertools import groupby

COLOURS = ("#bfdbfe", "#fed7aa", "#bbf7d0", "#fecaca", "#e9d5ff", "#fef08a")    # a token's ground, in turn


def readable(token):
    """A token on one line: blanks and line ends as signs; bytes that are part of a character, e.g. ‹ed 95›."""
    if isinstance(token, bytes):
        try:
            token = token.decode()
        except UnicodeDecodeError:
            return f"‹{token.hex(' ')}›"
    return "".join(SIGNS.get(c) or (c if c.isprintable() else f"‹U+{ord(c):04X}›") for c in token)


SIGNS = {" ": "·", "\n": "↵", "\t": "→", "\r": "␍"}


def size(token):
    return len(token if isinstance(token, bytes) else token.encode())


def show(tokenizer, text, *, special=False, console=None):
    """Print the pieces in colours, a table of ids and bytes, and how many bytes a token has."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    console = console or Console()
    ids = tokenizer.encode(text, special=special).tolist()
    pieces = [readable(tokenizer.token(i)) for i in ids]
    line = Text()
    for at, piece in enumerate(pieces):
        line.append(piece, style=f"{INK} on {COLOURS[at % len(COLOURS)]}")
    console.print(line)
    table = Table("token", "id", "bytes")
    for column in table.columns[1:]:
        column.justify = "right"
    for i, piece in zip(ids, pieces):
        table.add_row(Text(piece), str(i), str(size(tokenizer.token(i))))
    console.print(table)
    n = len(text.encode())
    console.print(f"{len(ids)} tokens for {len(text)} characters in {n} bytes" +
                  (f": {n / len(ids):.2f} bytes a token" if ids else ""), highlight=False)


# ---- what is learned -------------------------------------------------------------------------------------------------

INK = "#1f2933"
LEARNED, READ = "#86efac", "#e4e7eb"            # the ground of what is learned, and of what is only read


def show_learned(tokenizer, ids, learned, *, console=None):
    """Print a conversation, ids int (T,): on green what is learned, bool (T,), on grey what is only read; special tokens
    are bold."""
    from rich.console import Console
    from rich.text import Text
    line = Text()
    kinds = [(bool(is_learned), i in tokenizer.added) for i, is_learned in zip(ids.tolist(), learned)]
    for (is_learned, special), run in groupby(zip(kinds, ids.tolist()), key=lambda pair: pair[0]):
        run = [i for _, i in run]
        text = "".join(map(tokenizer.token, run)) if special else tokenizer.decode(run)
        line.append(text.replace("\n", "↵\n"), style=f"{'bold ' * special}{INK} on {LEARNED if is_learned else READ}")
    (console or Console()).print(line)
