"""Pictures show what is there: all of a graph, the weights that attention uses, the probabilities that a model gives."""
import re
import sys
import threading
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_lm as tg
from tinygrad_lm import cli
from tinygrad_lm import functional as F
from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.models.bert import BERT
from tinygrad_lm.models.config import FAMILIES
from tinygrad_lm.models.network import NetworkModel, load_network
from tinygrad_lm.models.ngram import NGram
from tinygrad_lm.models.rotary import rotary_angles
from tinygrad_lm.models.saved import describe
from tinygrad_lm.checkpoint import pack, save
from tinygrad_lm.tensor import Node
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.train import surprise
from tinygrad_lm.train.attention_map import attention_figure, attention_weights, weights_of
from tinygrad_lm.train.embedding_map import embedding_figure
from tinygrad_lm.train.graph_picture import Graph, mermaid, svg, watching
from tinygrad_lm.train.layered import apart, layout, ranks

SVG = "{http://www.w3.org/2000/svg}"


def picture(graph):
    """(texts of each box, number of edges) of a graph's SVG, which is well-formed."""
    root = ElementTree.fromstring(svg(graph))
    boxes = [[text.text for text in group.iter(f"{SVG}text")] for group in root.iter(f"{SVG}g")]
    return boxes, sum("marker-end" in path.attrib for path in root.iter(f"{SVG}path"))


def in_mermaid(graph):
    """The same of its Mermaid text."""
    head, *lines = mermaid(graph).splitlines()
    assert head == "flowchart TD"
    boxes = [re.fullmatch(r' +n\d+(?:\["(.*)"\]|\(\["(.*)"\]\))', line) for line in lines if "-->" not in line]
    return [(m[1] or m[2]).split("<br/>") for m in boxes], sum("-->" in line for line in lines)


# ---- the graph -------------------------------------------------------------------------------------------------------

@st.composite
def expressions(draw):
    """(result, tensors with a gradient that it was made of, number of their uses): sums and products of a few leaves."""
    pool = [tg.Tensor(float(i + 1), True) for i in range(draw(st.integers(1, 4)))]
    for _ in range(draw(st.integers(1, 12))):
        a, b = (pool[draw(st.integers(0, len(pool) - 1))] for _ in range(2))
        pool.append(draw(st.sampled_from([lambda: a + b, lambda: a * b, lambda: a - 2.0, lambda: a.tanh()]))())
    return pool[-1]


def walk(box, seen):
    """Every box below, by a recursion of its own, and how many inputs they read."""
    if box in seen:
        return 0
    seen.add(box)
    below = [t for t in (box.inputs if isinstance(box, Node) else ()) if t is not None]
    return len(below) + sum(walk(t, seen) for t in below)


@given(expressions())
def test_every_box_and_every_edge_is_there(result):
    seen = set()
    edges = walk(result.node or result, seen)
    graph = Graph(result)
    assert set(graph.boxes) == seen and len(graph.edges) == edges and all(i < j for i, j in graph.edges)
    for boxes, found in (picture(graph), in_mermaid(graph)):
        assert len(boxes) == len(seen) and found == edges
        assert sorted(b[0] for b in boxes) == sorted(b.name if isinstance(b, Node) else "leaf" for b in seen)


@given(expressions())
def test_boxes_stand_apart_on_the_paper_and_edges_run_down(result):
    graph = Graph(result)
    spots, paths, (width, height) = layout([(40 + 9 * i % 50, 30) for i in range(len(graph.boxes))], graph.edges)
    for a, i in zip(spots, range(len(spots))):
        assert 0 <= a.x - a.width / 2 and a.x + a.width / 2 <= width + 1e-6 and 0 <= a.y - 15 and a.y + 15 <= height
        assert all(abs(a.x - b.x) >= (a.width + b.width) / 2 - 1e-6 or abs(a.y - b.y) >= 30 for b in spots[:i])
    for (i, j), path in zip(graph.edges, paths, strict=True):
        assert path[0] is spots[i] and path[-1] is spots[j] and all(a.y < b.y for a, b in zip(path, path[1:]))


@given(st.lists(st.tuples(st.floats(-99, 99), st.floats(1, 9)), min_size=1, max_size=8))
def test_apart(wanted):
    wishes, gaps = zip(*wanted)
    found = apart(wishes, gaps)
    assert all(b - a >= gap - 1e-6 for a, b, gap in zip(found, found[1:], gaps[1:]))
    assert sum(found) == pytest.approx(sum(wishes), abs=1e-6)                       # least squares keep the mean
    assert apart([0, 0], [0, 10]) == [-5, 5] and apart([0, 20], [0, 10]) == [0, 20]


def test_a_box_stands_above_all_that_read_it():
    assert ranks(5, [(0, 1), (0, 2), (2, 3), (1, 4), (3, 4)]) == [3, 1, 2, 1, 0]


def test_only_few_numbers_are_kept():
    with watching() as watched:
        tg.Tensor([1.0] * 5, True) * 2
    assert not watched


def test_values_and_gradients_of_small_tensors():
    before = Node.watch
    with watching() as watched:
        x, y = tg.Tensor(2.0, True), tg.Tensor(-3.0, True)
        z = x * y
        out = (z + [1.0, 2.0]).sum() * x
    assert Node.watch is before
    graph = Graph(out, {"x": x, "y": y, "z": z}, watched)
    out.backward()
    boxes = {b[0]: b[1:] for b in picture(graph)[0]}
    assert boxes["x"] == ["2", f"d {x.grad:.4g}"] and boxes["y"] == ["-3", "d 8"] and boxes["z = mul"] == ["-6", "d 4"]
    assert boxes["add"] == ["[-5, -4]", "d [2, 2]"] and boxes["sum"] == ["-9", "d 2"]
    assert {b[0]: b[1:] for b in in_mermaid(graph)[0]} == boxes


def test_the_chapters_example_draws_the_chapters_figure(tmp_path, monkeypatch):
    docs = Path(__file__).parents[1] / "docs"
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"```python\n(.*?)```", (docs / "pictures.md").read_text(encoding="utf-8"), re.S)[1], {})
    assert texts(tmp_path / "graph.svg") == texts(docs / "figures" / "graph-scalar.svg")


def texts(path):
    return [t.text for t in ElementTree.parse(path).iter(f"{SVG}text")]


def test_watching_changes_no_gradient_and_nothing_afterwards():
    x = tg.Tensor(np.arange(3.0), True)
    plain = (x.exp() * x).sum()
    plain.backward()
    expected, x.grad = x.grad, None
    with watching():
        seen = (x.exp() * x).sum()
    seen.backward()
    assert (x.grad == expected).all() and Node.watch is None


def model(**config):
    return GPT(GPTConfig(**({"vocab_size": 9, "block_size": 8, "n_layer": 1, "n_head": 2, "n_embd": 16} | config)),
               rng=np.random.default_rng(0))


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("small", [True, False])
def test_a_gpt_has_all_its_parameters_in_its_picture(fold, small):
    m, idx = model(), np.arange(6)[None]
    with tg.detect_anomaly() if small else tg.modes.gradients_on():
        loss = m.loss(idx, idx)
    graph = Graph(loss, m, fold=fold)
    for boxes, _ in (picture(graph), in_mermaid(graph)):
        text = [line for box in boxes for line in box]
        for name, p in m.named_parameters():
            assert (f"{name} {p.shape}" in text) if fold else [name, str(p.shape)] in boxes
        assert ("linear_gelu" in text) == small and "cross_entropy" in text


def test_graphs_that_are_none():
    x = tg.Tensor(1.0, True)
    y = x * 2.0 + 1.0
    y.backward()
    with pytest.raises(ValueError, match="the graph of `add` was freed by backward"):
        Graph(y)
    with pytest.raises(ValueError, match="has no graph"):
        Graph(tg.Tensor(1.0))
    assert len(Graph(x).boxes) == len(Graph(x, fold=True).boxes) == 1 and picture(Graph(x))[1] == 0


def test_names_with_signs_that_mean_something():
    x = tg.Tensor(1.0, True)
    name = '<a & "b"> #1'
    graph = Graph(x * 2.0, {name: x})
    assert picture(graph)[0][0][0] == name and "#lt;a #amp; #quot;b#quot;#gt; #35;1<br/>" in mermaid(graph)


# ---- attention -------------------------------------------------------------------------------------------------------

SHAPES = {"gpt2": {}, "neox": FAMILIES["neox"], "llama": FAMILIES["llama"] | {"n_kv_head": 1},
          "bert": dict(order="post", causal=False, segments=2)}


@pytest.mark.parametrize("shape", SHAPES)
def test_these_weights_are_those_that_the_model_uses(shape):
    m = (BERT if shape == "bert" else GPT)(model(n_layer=2, **SHAPES[shape]).config if shape != "bert" else GPTConfig(
        9, 8, 2, 2, 16, **SHAPES[shape]), rng=np.random.default_rng(1))
    c, attn = m.config, m.blocks[0].attn
    attn.qkv.weight.data *= 20                                                      # so that no two weights are alike
    x = tg.Tensor(np.random.default_rng(2).normal(size=(1, 6, 16)).astype(np.float32))
    turn = rotary_angles(c, np.arange(6), x.data) if c.position == "rotary" else None
    p = weights_of(attn, x, turn)                                                   # (H, T, T)
    v = attn.qkv(x).numpy().reshape(6, -1, c.head_size).swapaxes(0, 1)[-c.n_kv_head:].repeat(c.n_head // c.n_kv_head, axis=0)
    looked = attn.proj(tg.Tensor((p @ v).swapaxes(0, 1).reshape(1, 6, -1)))
    np.testing.assert_allclose(looked.numpy(), attn(x, None, None, turn).numpy(), rtol=1e-4, atol=1e-5)
    idx, blocks = np.arange(6), m.blocks
    scores, found = m.hidden(idx[None]).numpy(), attention_weights(m, idx)
    assert m.blocks is blocks and (m.hidden(idx[None]).numpy() == scores).all()
    assert [w.shape for w in found] == [(2, 6, 6)] * 2
    for w in found:
        np.testing.assert_allclose(w.sum(-1), 1, rtol=1e-5)
        assert (w[:, ~np.tri(6, dtype=bool)] == 0).all() == c.causal


def test_the_first_layer_reads_what_the_embedding_gives():
    m, idx = model(), np.arange(5)
    x, _ = m.embedded(idx[None], 0, None)
    np.testing.assert_allclose(attention_weights(m, idx)[0], weights_of(m.blocks[0].attn, m.blocks[0].ln1(x)), rtol=1e-6)
    blocks = m.blocks
    with pytest.raises(ValueError, match="block_size"):
        attention_weights(m, np.zeros(9, int))
    assert m.blocks is blocks


def test_an_attention_figure_has_a_panel_a_head():
    w = attention_weights(model(n_layer=2), np.arange(5))
    figure = attention_figure(w[1:], list("abcde"), first=1)
    assert [ax.get_title() for ax in figure.axes] == ["layer 2, head 1", "layer 2, head 2"]
    assert (figure.axes[1].images[0].get_array() == w[1][1]).all()
    with pytest.raises(ValueError, match="has 65 tokens, and a picture has room for 64"):
        attention_figure(w, ["a"] * 65)


# ---- embeddings ------------------------------------------------------------------------------------------------------

def test_the_map_shows_the_side_on_which_vectors_differ():
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(size=(4, 6)) * 0.01 + np.eye(6)[0], rng.normal(size=(4, 6)) * 0.01 + np.eye(6)[1]])
    ax, = embedding_figure(vectors, list("abcdefgh")).axes
    x = {t.get_text(): t.xy[0] for t in ax.texts}
    assert set(x) == set("abcdefgh") and len({np.sign(x[c]) for c in "abcd"}) == 1 and x["a"] * x["e"] < 0
    assert re.search(r"first principal component: (9\d|100)%", ax.get_xlabel())
    with pytest.raises(ValueError, match="3 to 400 tokens, not 2"):
        embedding_figure(vectors[:2], ["a", "b"])


# ---- surprise --------------------------------------------------------------------------------------------------------

CHARS = CharTokenizer("^abcdef")


def network(**config):
    return NetworkModel(model(vocab_size=len(CHARS), **config), CHARS, start=CHARS.encode("^")[0], end=CHARS.end)


def test_surprise_is_what_the_model_says_of_each_token():
    m, text = network(), "abfade"
    reads = surprise.read(m, text, top=3)
    np.testing.assert_allclose([r.logp for r in reads], m.logprobs(m.ids(text)), rtol=1e-5)
    assert "".join(r.piece for r in reads) == text and surprise.read(m, "^" + text, top=3) == reads
    for t, r in enumerate(reads):
        logp = m.next_logprobs(m.ids(text)[:t])
        best = np.argsort(-logp)[:3]
        assert [token for token, _ in r.likeliest] == [CHARS.token(i) for i in best]
        assert [p for _, p in r.likeliest] == pytest.approx(np.exp(logp[best]), rel=1e-5)
        assert r.rank == 1 + (logp > logp[m.ids(text)[t]]).sum() and r.bits == pytest.approx(-r.logp / np.log(2))


def test_a_text_longer_than_the_block_and_a_model_that_counts():
    m, text = network(), "abfade" * 3
    assert len(surprise.read(m, text)) == 18
    ngram = NGram(["abc", "abd"] * 9, CharTokenizer("abcd"), order=2)
    reads = surprise.read(ngram, "abc", top=1)
    assert reads[1].likeliest[0][0] == "b" and sum(r.logp for r in reads) == pytest.approx(ngram.logprob("abc"))
    with pytest.raises(ValueError, match="the text is empty"):
        surprise.read(m, "")


def test_what_a_text_surprises_by_is_that_of_a_choice_among_so_many():
    told = surprise.summary([surprise.Read(piece, -bits * np.log(2), 1, []) for piece, bits in (("a", 2), ("b", 4))])
    assert told == "2 tokens, 6.0 bits of surprise: 3.00 a token, as if each were chosen among 8.0 equally likely ones"


def test_colours_go_from_expected_to_surprising():
    assert surprise.colour(0) == "#dcfce7" and surprise.colour(99) == surprise.colour(10) == "#f89682"
    assert [surprise.percent(p) for p in (0.456, 0.0456, 0.000456)] == ["46%", "4.6%", "0.0005"]


def test_the_page_of_a_text_is_html_whatever_the_text(capsys):
    reads = [surprise.Read("<b>", -1.0, 2, [("'\"&", 0.5)])]
    page = surprise.html(reads)
    assert "<b>" not in page and "&lt;b&gt;" in page and "&#x27;&quot;&amp; 50%" in page
    surprise.show(reads)
    shown = capsys.readouterr().out
    assert "<b>" in shown and "37%" in shown and "1 token, 1.4 bits" in shown


# ---- the commands ----------------------------------------------------------------------------------------------------

@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    m = model(vocab_size=len(CHARS))
    save(path, pack({"model": m})[0], describe(m, CHARS))
    return path


@pytest.fixture
def tell(monkeypatch, capsys):
    """What a command prints, or its error."""
    def tell(*arguments):
        monkeypatch.setattr(sys, "argv", ["tinygrad-lm", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit:
            return capsys.readouterr().err
        return capsys.readouterr().out
    return tell


def test_the_commands_draw(tell, checkpoint, tmp_path):
    for command, name, start in (("graph", "g.svg", b"<svg"), ("graph", "g.mmd", b"flowchart TD"),
                                 ("attention", "a.png", b"\x89PNG")):
        out = tmp_path / name
        assert tell("draw", command, checkpoint, "abc", "--out", out) == f"written: {out}\n"
        assert out.read_bytes().startswith(start)
    assert "linear_gelu" not in (tmp_path / "g.svg").read_text()
    tell("draw", "graph", checkpoint, "abc", "--small-operations", "--no-fold", "--out", tmp_path / "g.svg")
    assert "linear_gelu" in (tmp_path / "g.svg").read_text()
    tell("draw", "embeddings", checkpoint, "--out", tmp_path / "e.png")
    tell("draw", "embeddings", checkpoint, "--text", "abcabc", "--out", tmp_path / "e3.png")
    assert (tmp_path / "e.png").read_bytes() != (tmp_path / "e3.png").read_bytes()
    tell("draw", "attention", checkpoint, "abc", "--layer", 1, "--head", 2, "--out", tmp_path / "a2.png")
    assert len((tmp_path / "a2.png").read_bytes()) < len((tmp_path / "a.png").read_bytes())
    out = tell("surprise", checkpoint, "abc", "--html", tmp_path / "s.html")
    assert "3 tokens" in out and "3 tokens" in (tmp_path / "s.html").read_text(encoding="utf-8")
    assert load_network(checkpoint).network.config.vocab_size == len(CHARS)


def test_what_cannot_be_drawn_is_said_in_a_line(tell, checkpoint, tmp_path):
    for arguments, said in ((("attention", checkpoint, "abc", "--layer", 2), "there is no layer 2: the model has 1"),
                            (("attention", checkpoint, "abc", "--head", 3), "there is no head 3: the model has 2"),
                            (("attention", checkpoint, "a"), "the text has 1 tokens"),
                            (("graph", checkpoint, "xyz"), "the character 'x' at position 0"),
                            (("embeddings", checkpoint, "--text", "ab"), "3 to 400 tokens, not 2"),
                            (("graph", tmp_path / "none", "abc"), "does not exist"),
                            (("graph", checkpoint, "abc", "--out", checkpoint / "g.svg"), "cannot write")):
        err = tell("draw", *arguments)
        assert said in err and err.count("\n") == 1, err


def test_two_threads_keep_their_graphs(monkeypatch):
    """A graph that another thread builds while one watches is watched, too, and remains right."""
    x = tg.Tensor(np.ones(2), True)
    with watching():
        thread = threading.Thread(target=lambda: F.exp(x).sum().backward())
        thread.start()
        thread.join()
    assert x.grad == pytest.approx(np.e)
