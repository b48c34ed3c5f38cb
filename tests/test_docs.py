"""The book holds: its links lead somewhere, its commands and examples exist, and what it quotes is in the source."""
import ast
import re
import shlex
from pathlib import Path
from shutil import rmtree
from textwrap import dedent

import click
import pytest

from tests.test_docs_korean import headings
from tinygrad_lm import exercises
from tinygrad_lm.cli import commands as cli
from tools import quote

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.M | re.S)

every_page = pytest.mark.parametrize("page", TEXT)


def prose(text):
    """A page without its blocks of code and without code in a line."""
    return re.sub(r"`[^`]*`", "", re.sub(r"^    .*$", "", FENCED.sub("", text), flags=re.M))


def commands(text):
    """(program, its arguments) of all that a page shows to be typed: lines of code blocks, and code in a line."""
    blocks = re.findall(r"^    .+$", text, re.M) + [line for _, block in FENCED.findall(text) for line in block.splitlines()]
    joined = re.sub(r"\\\n\s*", "", "\n".join(blocks))
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", re.sub(r"\n>", "\n", FENCED.sub("", text)))]
    for line in [*joined.splitlines(), *inline]:
        line = re.sub(r"\$\(.*?\)", "FILE", line.strip().removeprefix("$ "))
        found = re.match(r"(?:[A-Z_]+=\S+ |mpirun .*?)?(tinygrad-lm|python) (.*)", line)
        if found and "…" not in line and "STAGE" not in line:
            yield found[1], shlex.split(re.split(r" [|>] | && |;", found[2])[0], comments=True)


# ---- links -----------------------------------------------------------------------------------------------------------

def anchors(text):
    return {a for _, a in headings(text)} | set(re.findall(r'<a id="(.+?)">', text))


@every_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)(?: \"[^\"]*\")?\)", prose(TEXT[page])):
        path, _, anchor = target.partition("#")
        to = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert to.exists(), f"{page} links to {target}"
        if anchor and to.suffix == ".md":
            assert anchor in anchors(to.read_text(encoding="utf-8")), f"{page} links to {target}"
        elif anchor:
            quote.quoted(to.relative_to(ROOT).as_posix(), anchor)


@every_page
def test_examples_that_are_named_exist(page):
    for name in re.findall(r"examples/\d\d\w*\.py", TEXT[page]):
        assert (ROOT / name).is_file(), f"{page} names {name}"


def test_every_page_has_a_place_in_the_book():
    book = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [page for page in TEXT if page != "README.md" and f" {page.removeprefix('docs/')}\n" not in book]
    assert not missing, f"not in the nav of mkdocs.yml: {missing}"


# ---- code ------------------------------------------------------------------------------------------------------------

@every_page
def test_what_is_quoted_is_in_the_source(page):
    if page.startswith("docs/"):
        quote.expanded(TEXT[page], page.removeprefix("docs/"))


@pytest.mark.parametrize("page, source", [("docs/counting.md", "models/ngram.py"), ("docs/neural.md", "models/neural.py")])
def test_what_a_translated_page_shows_is_in_the_source(page, source):
    """Where comments are translated, pages copy code; then the copy has to be true."""
    def bare(text):
        return "\n".join(line.strip() for line in text.splitlines())

    assert bare(FENCED.findall(TEXT[page])[0][1]) in bare((ROOT / "tinygrad_lm" / source).read_text(encoding="utf-8"))


@every_page
def test_python_on_the_pages_compiles(page):
    for language, block in FENCED.findall(TEXT[page]):
        if language == "python":
            ast.parse(as_a_function(block))


def as_a_function(block):
    """Lines of a function's body, `return` among them, are Python inside one."""
    return "def page():\n" + re.sub("^", "    ", dedent(block), flags=re.M) + "\n    pass"


@every_page
def test_commands_can_be_given(page):
    for program, arguments in commands(TEXT[page]):
        if program == "tinygrad-lm":
            understood(page, cli, arguments)
        elif arguments and arguments[0].endswith(".py"):
            source = (ROOT / arguments[0]).read_text(encoding="utf-8")
            for option in re.findall(r"--[\w-]+", " ".join(arguments[1:])):
                assert f'"{option}"' in source, f"{page}: {arguments[0]} has no option {option}"


def understood(page, command, arguments):
    """Do the commands and options of this line exist? Values are not looked at: FILE stands for one of the reader's, and an
    option that is only named has none."""
    name = "tinygrad-lm"
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        context = click.Context(command)
        word, *arguments = arguments
        assert command.get_command(context, word), f"{page}: {name} has no command {word}"
        command, name = command.get_command(context, word), f"{name} {word}"
    try:
        if arguments[-1:] and arguments[-1].startswith("--"):
            arguments = [*arguments, *takes_a_value(command, arguments[-1])]
        command.make_parser(click.Context(command)).parse_args(list(arguments))
    except click.UsageError as error:
        pytest.fail(f"{page}: {name} {' '.join(arguments)}: {error.message}")


def takes_a_value(command, option):
    """A value for the option that ends a line, where it wants one."""
    return ["VALUE"] if any(option in p.opts and not getattr(p, "is_flag", False) for p in command.params) else []


# ---- what asks to be tried -------------------------------------------------------------------------------------------

@every_page
def test_exercises_that_are_named_exist(page):
    """A word of code alone in a Try it box is an exercise; so is what a command of `tinygrad-lm exercise` is given."""
    named = [word for _, box in quote.TRY.findall(TEXT[page]) for word in re.findall(r"`(\w+)`", box)]
    named += [what[2] for _, what in commands(TEXT[page])
              if what[:1] == ["exercise"] and what[1:2] in (["start"], ["check"], ["hint"], ["solution"]) and what[2:]]
    for word in named:
        if word.isidentifier() and not word.isupper():
            exercises.find(word)


# ---- the tool that quotes ---------------------------------------------------------------------------------------------

def test_a_quotation_becomes_the_code_it_names():
    page = quote.expanded('[Softmax](../tinygrad_lm/ops/softmax.py#softmax_backward "y, axis = … return y")\n', "a.md")
    assert 'title="tinygrad_lm/ops/softmax.py"' in page and "\ny, axis = saved\nif fits_kernel(y)" in page
    assert "def softmax_backward" not in page


def test_a_quotation_can_be_of_a_method_or_a_kernel():
    assert quote.quoted("tinygrad_lm/models/transformer.py", "Block.forward")[0].startswith("def forward(self, x")
    assert "softmax_forward" in quote.quoted("tinygrad_lm/ops/softmax.cu", "softmax_forward")[0]


@pytest.mark.parametrize("target", ["ops/softmax.py#softmax_sideways", "ops/nothing.py#f", 'nn.py#Linear "def … no line"'])
def test_a_quotation_of_what_is_not_there_stops_the_build(target):
    with pytest.raises(quote.NoSuchCode, match="quoted"):
        quote.expanded(f"[Label](../tinygrad_lm/{target})\n", "a.md")


def test_code_blocks_keep_what_looks_like_a_quotation():
    page = "```\n[Label](../tinygrad_lm/nn.py#Nothing)\n[GAE]\n```\n"
    assert quote.framed(quote.expanded(quote.cited(page, "a.md"), "a.md")) == page


def test_a_box_and_a_key():
    assert quote.framed("> **Try it.** Write\n> `it`.\n\nAnd on.") == '!!! example "Try it"\n    Write\n    `it`.\n\nAnd on.'
    assert quote.cited("[GAE], not [NOBODY] nor `[GAE]`", "ko/a.md") == \
        "[[GAE]](../references.md#GAE), not [NOBODY] nor `[GAE]`"


def test_the_table_of_operations_says_something_of_each():
    _, _, *lines = quote.table_of_operations().splitlines()
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len(rows) > 15 and all(len(row) == 3 and all(row) for row in rows)
    assert "`a ** b`" in [forward for _, forward, _ in rows] and "`dy * (x > 0)`" in [backward for *_, backward in rows]


def test_the_reader_of_commands_reads():
    """Else what holds of all commands holds of none."""
    page = "    $ tinygrad-lm ngram --order \\\n        5\n\nand `python examples/08.py\n--fast`, `tinygrad-lm demo` too\n"
    assert list(commands(page)) == [("tinygrad-lm", ["ngram", "--order", "5"]), ("python", ["examples/08.py", "--fast"]),
                                    ("tinygrad-lm", ["demo"])]
    with pytest.raises(pytest.fail.Exception, match="No such option"):
        understood("a page", cli, ["ngram", "--odrer", "5"])
    assert sum(len(list(commands(text))) for text in TEXT.values()) > 150


# ---- the commands of the book, run ------------------------------------------------------------------------------------

ROAD = ["docs/quick-start.md", "docs/serving.md", "docs/tokenizers.md", "docs/instructions.md", "docs/rewards.md"]
CUT_SHORT = {"pretrain": ["--steps", "3"], "neural": ["--steps", "3"], "sft": ["--steps", "3"], "ppo": ["--iterations", "1"],
             "reward": ["--rankings", "60", "--epochs", "1"], "museum plot": ["--out", "museum"]}
LEFT_OUT = {"chat": "asks a person", "serve": "goes on until it is stopped", "bench": "takes minutes: tests/test_bench.py",
            "demo": "takes minutes: tests/test_road.py", "data get": "needs a network: tests/test_data.py",
            "museum check": "grades a file of the reader's: tests/test_museum.py",
            "museum plot": "takes a minute an exhibit: tests/test_museum.py",
            "exercise check": "grades a file of the reader's: tests/test_exercises.py",
            "evaluate FOLDER": "wants a model that can spell the questions: tests/test_evaluate.py",
            "merge folder": "wants a folder in PEFT's layout: tests/test_lora.py",
            "pretrain --text FILE --tokenizer FILE": "wants GPT-2's tokenizer, which needs a network",
            "sft --data data/learned.jsonl --model runs/examples": "wants what a long run of an example leaves",
            "size --lora": "is only named", "museum show NAME": "is only named"}


def to_be_run():
    """The commands of the book, those first that leave what others read; one without arguments is only named."""
    for page in [*ROAD, *(p for p in TEXT if p.startswith("docs/") and p not in ROAD)]:
        for program, what in commands(TEXT[page]):
            line = " ".join(what)
            if program == "tinygrad-lm" and len(what) > 1 and not any(line.startswith(words) for words in LEFT_OUT):
                yield page, what


@pytest.mark.slow
def test_the_commands_of_the_book_run(tmp_path, monkeypatch):
    """One after another in one folder, as a reader would; training is cut to a few steps, and FILE is a text."""
    monkeypatch.chdir(tmp_path)
    stories = [(ROOT / f"tinygrad_lm/data/stories_{name}.txt").read_text(encoding="utf-8") for name in ("en", "ko")]
    done = set()
    for page, what in to_be_run():
        if tuple(what) not in done:
            done.add(tuple(what))
            Path("FILE").write_text("\n\n".join([*stories, "ROMEO: ^"]), encoding="utf-8")        # some commands write it
            if list(what[:2]) == ["exercise", "start"]:                       # pages start the same one by its other name
                rmtree("exercises", ignore_errors=True)
            short = next((more for words, more in CUT_SHORT.items() if " ".join(what).startswith(words)), [])
            try:
                cli.main([*what, *short], "tinygrad-lm", standalone_mode=False)
            except (Exception, SystemExit) as error:
                pytest.fail(f"{page}: tinygrad-lm {' '.join(what)}: {type(error).__name__}: {error}")
    assert len(done) > 50
