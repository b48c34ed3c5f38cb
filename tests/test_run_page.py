"""A run's page says what was logged, and what is noted on the way changes nothing of the run."""
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_lm import cli, nn, train as training
from tinygrad_lm.checkpoint import CheckpointError, load, save
from tinygrad_lm.optim import AdamW
from tinygrad_lm.train import notes, run_page, samples
from tinygrad_lm.train.curves import curve_figure, logged
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.samples import writer

from .stages import TOKENIZER, train

PROMPTS = [TOKENIZER.encode("ab"), TOKENIZER.encode("c")]
SAMPLES = writer(TOKENIZER, PROMPTS, n=4, end=TOKENIZER.end, seed=3)


class Parts(HTMLParser):
    """The tags of a page, and the images' labels; a tag that is never closed is an error."""
    void = {"meta", "img"}

    def __init__(self, page):
        super().__init__()
        self.open, self.images, self.text = [], [], []
        self.feed(page)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            attrs = dict(attrs)
            assert attrs["src"].startswith("data:image/png;base64,")                # the page is self-contained
            self.images.append(attrs["alt"])
        elif tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("stage", ["pretrain", "ppo"])
def test_samples_on_the_way_change_no_bit(stage, tmp_path):
    plain, logged = train(stage)
    watched, again = train(stage, tmp_path, samples=SAMPLES)
    assert logged == again and all((plain[name] == watched[name]).all() for name in plain)
    looked = notes.read(tmp_path / "notes.json")["samples"]
    assert [x["step"] for x in looked] == sorted(notes.looks(12)) and looked[0]["texts"] != looked[-1]["texts"]
    assert all([prompt for prompt, _ in x["texts"]] == ["ab", "c"] for x in looked)


def test_a_run_that_was_broken_off_has_the_notes_of_one_that_was_not(tmp_path, monkeypatch):
    train("sft", tmp_path / "whole", samples=SAMPLES, save_every=3)
    step = AdamW.step
    with monkeypatch.context() as m:
        m.setattr(AdamW, "step", lambda opt, **options: step(opt, **options) if opt.step_count < 8 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train("sft", tmp_path / "cut", samples=SAMPLES, save_every=3)
    train("sft", tmp_path / "cut", samples=SAMPLES, save_every=3, resume=True)
    whole, cut = (notes.read(tmp_path / name / "notes.json") for name in ("whole", "cut"))
    assert whole["samples"] == cut["samples"] and [s for s, _ in whole["clock"]] == [s for s, _ in cut["clock"]]
    seconds = [s for _, s in cut["clock"]]
    assert seconds == sorted(seconds) and seconds[0] >= 0
    assert load(tmp_path / "whole" / "checkpoint.safetensors")[1] == load(tmp_path / "cut" / "checkpoint.safetensors")[1]


def test_the_clock_stands_while_samples_are_taken(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(notes, "perf_counter", lambda: now[0])

    def passes(seconds):
        now[0] += seconds
        return []
    taken = notes.Notes(samples=lambda model: passes(100))
    taken.begin(0, 1)
    taken.look(0, None)
    passes(2)
    taken.tick(1)
    taken.look(1, None)
    assert taken.clock == [[1, 2.0]] and [x["step"] for x in taken.samples] == [0, 1]


def test_the_numbers_that_one_looks_for_first():
    noted = {"clock": [[1, 2.0], [10, 5.0]], "peak_memory": 300 * 2 ** 20}
    page = run_page.cards(noted, [{"step": 10, "loss": 1.25, "tokens": 100}], 7)
    for number, name in (("1.250", "loss of the last batch logged"), ("7", "parameters"), ("5.0 s", "of training"),
                         ("200", "tokens a second"), ("300 MiB", "of memory at most")):
        assert f"<b>{number}</b><span>{name}</span>" in page


def test_samples_end_before_the_token_that_ends_them(monkeypatch):
    ids = [*TOKENIZER.encode("abc"), TOKENIZER.end, *TOKENIZER.encode("a")]
    said = SimpleNamespace(tokens=np.array([ids]), ended=np.array([True]))
    monkeypatch.setattr(samples, "generate", lambda *a, **options: said)
    assert writer(TOKENIZER, [TOKENIZER.encode("a")], n=4, end=TOKENIZER.end)(None) == [["a", "bc"]]


def test_looks_are_at_the_beginning_and_the_end_and_sooner_at_first():
    assert sorted(notes.looks(100)) == [0, 4, 16, 36, 64, 100] and notes.looks(1) == {0, 1}


@pytest.mark.parametrize("stage", ["pretrain", "sft", "reward", "dpo", "rejection", "ppo", "grpo"])
def test_every_stage_logs_what_its_page_shows(stage, tmp_path):
    _, history = train(stage, tmp_path)
    assert all(h["grad_norm"] > 0 and h["lr"] >= 0 for h in history)
    parts = Parts(run_page.write_page(tmp_path).read_text(encoding="utf-8"))
    assert {"Learning rate", "Length of the gradient"} < set(parts.images)
    assert ("Reward" if stage in ("ppo", "grpo", "rejection") else "Loss (nats)") in parts.images
    assert "Settings" in parts.text and any("12 of 12" in t for t in parts.text)


def test_the_gradient_is_logged_as_it_was_before_clipping(tmp_path):
    layer = nn.Linear(2, 1, rng=np.random.default_rng(0))
    layer.loss = lambda idx, targets: (layer(idx) * 3).sum()
    opt = AdamW(layer.parameters(), lr=0.1)
    training.train_step(layer, opt, np.array([[1.0, 2.0]], np.float32), np.array([0]), max_norm=0.5, workers=1)
    assert opt.grad_norm == pytest.approx(3 * 6 ** 0.5)                             # 3 (1, 2) and 3 for the bias


def test_a_page_without_notes_and_one_whose_texts_are_long_or_dangerous(tmp_path):
    train("sft", tmp_path, samples=lambda model: [["<b>", "<script>alert(1)</script> & more than sixteen"]])
    page = run_page.write_page(tmp_path).read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page and "of memory at most" in page
    size = sum(a.size for name, a in load(tmp_path / "checkpoint.safetensors")[0].items() if name.startswith("model/"))
    assert f"<b>{size:,}</b><span>parameters</span>" in page
    Parts(page)
    for broken in ("", "{}", '{"clock": 3}', "[1]"):
        (tmp_path / "notes.json").write_text(broken)
        assert "on the way" not in run_page.write_page(tmp_path).read_text(encoding="utf-8")
    (tmp_path / "notes.json").unlink()
    Parts(run_page.write_page(tmp_path).read_text(encoding="utf-8"))


def test_report_makes_the_page_again(tmp_path, monkeypatch, capsys):
    train("reward", tmp_path)
    monkeypatch.setattr(sys, "argv", ["tinygrad-lm", "report", str(tmp_path)])
    cli.main()
    assert str(tmp_path / "report.html") in capsys.readouterr().out
    Parts((tmp_path / "report.html").read_text(encoding="utf-8"))
    tensors, meta = load(tmp_path / "checkpoint.safetensors")
    save(tmp_path / "checkpoint.safetensors", tensors, {k: v for k, v in meta.items() if k != "history"})
    with pytest.raises(CheckpointError, match="not of a run: it says nothing about 'history'"):
        run_page.write_page(tmp_path)


def test_notes_that_cannot_be_written(tmp_path, monkeypatch):
    run = Run(tmp_path, tokenizer=TOKENIZER)
    monkeypatch.setattr(notes, "replace", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(CheckpointError, match="notes.json: No space left"):
        run.notes.save()


@pytest.mark.parametrize("numbers, shown", [((0.6, 1.3), {"0.6", "1"}), ((0.004, 30), {"0.01", "0.1", "1", "10"})])
def test_a_logarithmic_axis_has_as_many_labels_as_it_has_room_for(numbers, shown):
    history = [{"step": i, "grad_norm": x} for i, x in enumerate(numbers)]
    curve, = logged(history)
    figure = curve_figure(history, curve)
    figure.canvas.draw()
    ax, = figure.axes
    low, high = ax.get_ylim()
    labels = [t.get_text() for t in [*ax.get_yticklabels(), *ax.get_yticklabels(minor=True)]
              if t.get_text() and low <= t.get_position()[1] <= high]
    assert shown <= set(labels) and len(labels) < 12


def test_zero_has_no_place_on_a_logarithmic_axis():
    for numbers, scale in (((0.0, 1.0), "linear"), ((0.5, 1.0), "log")):
        history = [{"step": i, "grad_norm": x} for i, x in enumerate(numbers)]
        assert curve_figure(history, logged(history)[0]).axes[0].get_yscale() == scale


def test_durations():
    assert [run_page.duration(s) for s in (3.21, 90, 7200)] == ["3.2 s", "1.5 min", "2.0 h"]
