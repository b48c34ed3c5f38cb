"""The book quotes the source and never copies it: a link alone on its line becomes the code that it names.

    [Softmax](../tinygrad_lm/ops/softmax.py#softmax_forward)
    [The loop](../tinygrad_lm/train/ppo.py#ppo "for _ in range … return")

The fragment names a function, a class, or a method (`Block.forward`). A title with an ellipsis picks lines of it: from the
first that begins with what is before the ellipsis, up to the next that begins with what is behind it; a title without one
picks a single line. On a site that shows Markdown as it is, the same line is a link to the file. A name or a line that the
source does not have stops the build. MkDocs calls the functions below whose names begin with `on_` (`hooks:` in mkdocs.yml);
they also write a page for every source file that the book links to, frame what begins with `> **Try it.**`, lead a paper's
key such as [GAE] to the references, draw equations as MathML, which needs no network, and list the functions of
`functional.py`, whose one line says nothing that a reader of the API could see.
"""
import ast
import posixpath
import re
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[1]
SOURCES = {".py": "python", ".cu": "cuda"}
QUOTE = re.compile(r'^\[([^\]\n]+)\]\(([^)\s#]+\.(?:py|cu))#([\w.]+)(?: "([^"\n]+)")?\)$', re.M)
LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(([^)\s#:]+\.(?:py|cu))(?:#([\w.]+))?\)")
FENCE = re.compile(r"^(`{3,})[^\n]*\n.*?^\1$", re.M | re.S)
TRY = re.compile(r"^> \*\*(Try it|해 보기)\.\*\* (.*(?:\n>.*)*)", re.M)
KEY = re.compile(r"^    .*|`[^`]*`|\[([A-Z][A-Z0-9]+)\](?![(\[*])", re.M)
LISTED = re.compile(r"^- (\*\*\[([A-Z0-9]+)\]\*\*)", re.M)
BESIDE = re.compile(r"\b(?:array_module\((?:[^()]|\([^()]*\))*\)|xp)\.| if needs\[\d\] else None")    # not in formulas
OPS = re.compile(r"^(\w+) = op\((\w+)\.(\w+), (\w+)\.(\w+)\)$", re.M)


class NoSuchCode(ValueError):
    """A quotation of what the source does not have."""


def outside_fences(pattern, replace, text):
    """re.sub, but what stands in fenced code stays as it is."""
    parts, at = [], 0
    for fence in FENCE.finditer(text):
        parts += [pattern.sub(replace, text[at:fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, pattern.sub(replace, text[at:])])


def source_path(page, target):
    """Where a link on a page of docs/ points, from the root: ("ko/a.md", "../../x.py") -> "x.py" """
    return posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))


def quoted(path, name, pick=None):
    """(code, number of its first line) of what is called `name` in the file at `path`."""
    file = ROOT / path
    if not file.is_file():
        raise NoSuchCode(f"{path} is quoted and there is no such file")
    text = file.read_text(encoding="utf-8")
    start, end = (python_span if file.suffix == ".py" else cuda_span)(text, name, path)
    lines = text.splitlines()[start - 1:end]
    if pick is not None:
        first, last = picked(lines, pick, f"{path}#{name}")
        start, lines = start + first, lines[first:last + 1]
    return dedent("\n".join(lines)), start


def python_span(text, name, path):
    """(first, last) line of a function, class, method or assignment, with its decorators."""
    body = ast.parse(text).body
    for part in name.split("."):
        found = next((n for n in body if getattr(n, "name", None) == part or part in assigned(n)), None)
        if found is None:
            raise NoSuchCode(f"{path} has no {name}, which is quoted")
        body = getattr(found, "body", [])
    return min([found.lineno, *(d.lineno for d in getattr(found, "decorator_list", []))]), found.end_lineno


def assigned(node):
    return [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]


def cuda_span(text, name, path):
    """(first, last) line of a kernel or a device function: from its name before a bracket to a } of its own."""
    lines = text.splitlines()
    start = next((i for i, s in enumerate(lines) if re.match(rf"[^\s/#].*\b{name}\s*\(", s)), None)
    end = start is not None and next((i for i in range(start, len(lines)) if lines[i].startswith("}")), None)
    if not end:
        raise NoSuchCode(f"{path} has no {name}, which is quoted")
    return start + 1, end + 1


def picked(lines, pick, where):
    """Indices of the first and the last line that "from … to" picks, or twice the one of "line"."""
    begin, _, stop = (part.strip() for part in pick.partition("…"))
    bare = [s.strip() for s in lines]
    first = next((i for i, s in enumerate(bare) if s.startswith(begin)), None)
    last = first if not stop else first is not None and next(
        (i for i in range(first + 1, len(bare)) if bare[i].startswith(stop)), None)
    if first is None or last is None:
        raise NoSuchCode(f"{where} has no lines “{pick}”, which are quoted")
    return first, last


def source_page(path):
    """The page of the book that shows a source file whole, from the root of docs/: "ops/a.py" -> "source/ops/a.py.md" """
    return f"source/{path}.md"


def expanded(markdown, page):
    """A page's text with its quotations in place, each under its file's name, and links to sources led to their pages."""
    def link(label, path, line):
        """HTML, for MkDocs cannot see that lines of code have anchors."""
        up = "../" * page.count("/")
        return f'<a href="{up}{source_page(path).removesuffix(".md")}.html#__codelineno-0-{line}">{label}</a>'

    def code(match):
        label, target, name, pick = match.groups()
        path = source_path(page, target)
        text, line = quoted(path, name, pick)
        return f'``` {{.{SOURCES[Path(path).suffix]} title="{path}"}}\n{text}\n```\n\n' \
               f'<p class="quoted">{link(label, path, line)}</p>\n'

    def lead(match):
        label, target, name = match.groups()
        path = source_path(page, target)
        if not (ROOT / path).is_file():
            raise NoSuchCode(f"{page} links to {path} and there is no such file")
        return link(label, path, quoted(path, name)[1] if name else 1)

    return outside_fences(LINK, lead, outside_fences(QUOTE, code, markdown))


def framed(markdown):
    """Quotations that ask to try something, as boxes."""
    return outside_fences(TRY, lambda m: f'!!! example "{m[1]}"\n' + re.sub("^(?:> ?)?", "    ", m[2], flags=re.M), markdown)


def cited(markdown, page):
    """Keys of papers lead to the references, where each entry has its key as anchor."""
    if page == "references.md":
        return LISTED.sub(r"- \1{#\2}", markdown)
    home = "../" * page.count("/") + "references.md"
    listed = {key for _, key in LISTED.findall((ROOT / "docs/references.md").read_text(encoding="utf-8"))}
    return outside_fences(KEY, lambda m: f"[[{m[1]}]]({home}#{m[1]})" if m[1] in listed else m[0], markdown)


def table_of_operations():
    """The functions that functional.py makes with `op`, as a Markdown table: name, arguments, and its two docstrings."""
    text = (ROOT / "tinygrad_lm/functional.py").read_text(encoding="utf-8")
    modules = {name: path for path in (ROOT / "tinygrad_lm/ops").glob("*.py") for name in [path.stem]}
    aliases = dict(re.findall(r"\b(\w+) as (\w+)", text))
    aliases = {short: long for long, short in aliases.items()} | {name: name for name in modules}
    rows = ["| function | forward | backward |", "|---|---|---|"]
    for name, module, forward, backward_module, backward in OPS.findall(text):
        if name.startswith("_"):
            continue
        path, back = (f"tinygrad_lm/ops/{aliases[m]}.py" for m in (module, backward_module))
        rows.append(f"| [`{name}{arguments(path, forward)}`](../{path}#{forward}) | {first_line(path, forward)} "
                    f"| {first_line(back, backward)} |")
    return "\n".join(rows)


def function(path, name):
    """The syntax tree of a function, or None where the name only stands for another."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name), None)


def arguments(path, name):
    found = function(path, name)
    return f"({ast.unparse(found.args)})" if found else ""


def results(value, name):
    """Of what a forward returns, its result alone; of a backward's tuple of one, the one."""
    if not isinstance(value, ast.Tuple):
        return value
    return value.elts[0] if name.endswith("_forward") or len(value.elts) == 1 else value


def first_line(path, name):
    """The first paragraph of a function's docstring, or what it returns where that says all; fit for a cell of a table."""
    found = function(path, name)
    text = (ast.get_docstring(found) or "") if found else ""
    if found and not text and isinstance(found.body[-1], ast.Return):
        value = results(found.body[-1].value, name)
        made = [n.value for n in found.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == ast.unparse(value)]
        text = f"`{BESIDE.sub('', ast.unparse(made[0] if len(made) == 1 else value))}`"
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


# ---- what MkDocs calls ----------------------------------------------------------------------------------------------


def on_files(files, config):
    """A page for each source file that a page links to."""
    from mkdocs.structure.files import File
    linked = {source_path(f.src_uri, match[1]) for f in files.documentation_pages()
              for match in re.finditer(r"\]\(([^)\s#:]+\.(?:py|cu))[#)]", f.content_string)}
    linked |= {p.relative_to(ROOT).as_posix() for p in (ROOT / "tinygrad_lm/ops").glob("*.py")}
    for path in sorted(linked):
        if (ROOT / path).is_file():
            text = (ROOT / path).read_text(encoding="utf-8")
            page = f"---\nsearch:\n  exclude: true\nhide: [toc]\n---\n\n# {path}\n\n" \
                   f"``` {{.{SOURCES[Path(path).suffix]} linenums=1}}\n{text}```\n"
            files.append(File.generated(config, source_page(path), content=page))
    return files


def on_page_markdown(markdown, page, config, files):
    """Quotations, and the table of operations."""
    from mkdocs.exceptions import PluginError
    uri = page.file.src_uri
    if uri.startswith("source/"):
        return markdown
    if uri == "api/functional.md":
        markdown = markdown.replace("<!-- operations -->", table_of_operations().replace("](../", "](../../"))
    try:
        return framed(expanded(cited(markdown, uri), uri))
    except NoSuchCode as error:
        raise PluginError(f"{uri}: {error}") from None


EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)


def on_page_content(html, page, config, files):
    """Equations as MathML."""
    from html import unescape

    from latex2mathml.converter import convert
    return EQUATION.sub(lambda m: convert(unescape(m[3]), display="block" if m[2] == "[" else "inline"), html)
