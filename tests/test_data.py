"""Published texts come once, checked, whole or not at all; whatever goes wrong on the way is one line that helps."""
import os
import re
import sys
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer

import pytest

from tinygrad_lm import cli
from tinygrad_lm.text import fetch, known_texts
from tinygrad_lm.text.known_texts import KNOWN, SHIPPED, File, Known, cache, shipped

DATA = Path(os.environ.get("TINYGRAD_LM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
TEXT = "There was once a tree that stood by the sea.\n".encode() * 5000                # more than one piece


class Server(ThreadingTCPServer):
    """What it is asked for it gives, in the way that the path's first part says; it counts how often it is asked."""
    asked, answers, daemon_threads = 0, TEXT, True

    def address(self, how="whole"):
        return f"http://127.0.0.1:{self.server_address[1]}/{how}/text.txt"

    def file(self, how="whole"):
        return File("text.txt", self.address(how), sha256(TEXT).hexdigest(), len(TEXT))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        how, body = self.path.split("/")[1], self.server.answers
        if how == "missing":
            return self.send_error(404)
        if how == "silent":
            return self.server.let_go.wait(20)
        self.send_response(200)
        if how != "endless":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write({"whole": body, "half": body[:len(body) // 2], "other": b"!" + body[1:],
                          "endless": body + b"and so on. " * 100_000}[how])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as found:
        found.let_go = threading.Event()
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        found.let_go.set()
        found.shutdown()


@pytest.fixture
def tg(server, tmp_path, monkeypatch, capsys):
    """The command, which knows one text, on the local server."""
    monkeypatch.setenv("TINYGRAD_LM_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(known_texts, "KNOWN", {
        "tale": Known((server.file(),), "CC0 1.0", "nobody, example.org", "a test"),
        "two": Known((server.file(), server.file()._replace(name="again.txt")), "MIT", "nobody", "a test"),
        "lost": Known((server.file("missing"),), "MIT", "nobody", "a test")})

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["tinygrad-lm", "data", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as leave:
            code = leave.code
        return code, *capsys.readouterr()
    return call


def lying_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# ---- one file -------------------------------------------------------------------------------------------------------

def test_a_file_comes_once(server, tmp_path):
    told = []
    path = fetch.fetch(server.file(), tmp_path / "new", advance=told.append)
    assert path.read_bytes() == TEXT and sum(told) == len(TEXT) and len(told) > 1
    assert fetch.fetch(server.file(), tmp_path / "new") == path and server.asked == 1
    assert lying_in(tmp_path) == ["new/text.txt"]


def test_a_file_put_there_by_hand_is_taken_and_another_is_replaced(server, tmp_path):
    (tmp_path / "text.txt").write_bytes(TEXT)
    fetch.fetch(server.file(), tmp_path)
    assert server.asked == 0
    (tmp_path / "text.txt").write_bytes(TEXT[:100])                      # as another program may leave it
    fetch.fetch(server.file(), tmp_path)
    assert server.asked == 1 and (tmp_path / "text.txt").read_bytes() == TEXT


@pytest.mark.parametrize("how, message", [
    ("missing", "the server says 404 Not Found"),
    ("half", f"broke off after {len(TEXT) // 2:,} of {len(TEXT):,} bytes"),
    ("other", f"is another file than it was: its sha256 is {sha256(b'!' + TEXT[1:]).hexdigest()}, "
              f"expected {sha256(TEXT).hexdigest()}"),
    ("endless", "is another file than it was"),
    ("silent", "nothing came for 0.3 s")])
def test_what_goes_wrong_is_one_line_and_leaves_nothing(server, tmp_path, how, message):
    with pytest.raises(ValueError) as caught:
        fetch.fetch(server.file(how), tmp_path, timeout=0.3)
    said = str(caught.value)
    assert message in said and server.address(how) in said and "\n" not in said
    assert lying_in(tmp_path) == []
    (tmp_path / "text.txt").write_bytes(b"another")                      # and spoils nothing
    with pytest.raises(ValueError):
        fetch.fetch(server.file(how), tmp_path, timeout=0.3)
    assert (tmp_path / "text.txt").read_bytes() == b"another" and lying_in(tmp_path) == ["text.txt"]


def test_an_endless_file_is_not_read_to_its_end(server, tmp_path):
    told = []
    with pytest.raises(ValueError):
        fetch.fetch(server.file("endless"), tmp_path, advance=told.append)
    assert sum(told) <= len(TEXT) + fetch.PIECE


def test_without_a_network(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(ValueError) as caught:
        fetch.fetch(server.file(), tmp_path)
    said = str(caught.value)
    assert re.search(r"cannot be fetched: .*refused", said) and str(tmp_path / "text.txt") in said and "\n" not in said
    assert "by hand" in said and "come with the package need no network" in said


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_interrupted_it_leaves_nothing_behind(server, tmp_path, error):
    def stop(n):
        raise error
    with pytest.raises((KeyboardInterrupt, ValueError)):
        fetch.fetch(server.file(), tmp_path, advance=stop)
    assert lying_in(tmp_path) == []
    assert fetch.fetch(server.file(), tmp_path).read_bytes() == TEXT


def test_a_folder_that_cannot_be(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot (read|write) .*text.txt"):
        fetch.fetch(server.file(), tmp_path / "file")


# ---- the command ----------------------------------------------------------------------------------------------------

def test_get_shows_the_licence_first_and_fetches_once(tg, server, tmp_path):
    code, out, _ = tg("get", "tale")
    assert code == 0 and (tmp_path / "cache" / "tale" / "text.txt").read_bytes() == TEXT
    assert out.index("CC0 1.0") < out.index("example.org") < out.index(server.address()) < out.index("as expected")
    code, out, _ = tg("get", "tale", "--to", tmp_path / "here")
    assert code == 0 and "fetched before" in out and server.asked == 1
    assert (tmp_path / "here" / "text.txt").read_bytes() == TEXT
    code, out, _ = tg("path", "tale")
    assert code == 0 and Path(out.rstrip("\n")).read_bytes() == TEXT
    assert "fetched" in tg("list")[1].split("tale")[1].splitlines()[0]


def test_of_several_files_the_path_is_their_folder(tg, server, tmp_path):
    assert tg("get", "two")[0] == 0 and server.asked == 2
    assert tg("path", "two")[1] == f"{tmp_path / 'cache' / 'two'}\n"
    (tmp_path / "cache" / "two" / "again.txt").unlink()
    code, _, err = tg("path", "two")
    assert code == 1 and "tinygrad-lm data get two" in err
    assert tg("get", "two")[0] == 0 and server.asked == 3


def test_mistakes(tg, tmp_path):
    for arguments, message in [(["get", "tail"], "no text 'tail' is known, did you mean tale?"),
                               (["path", "zzz"], "Known are tale, two, lost; with the package come names"),
                               (["path", "tale"], "tale was not fetched yet: tinygrad-lm data get tale"),
                               (["get", "lost"], "the server says 404"),
                               (["get", "names", "--to", tmp_path / "file" / "below"], "cannot write")]:
        (tmp_path / "file").touch()
        code, _, err = tg(*arguments)
        assert code == 1 and message in err and len(err.splitlines()) == 1, (arguments, err)
    (tmp_path / "cache" / "tale").mkdir(parents=True)
    (tmp_path / "cache" / "tale" / "text.txt").write_text("another")
    assert "not the file that it was" in tg("path", "tale")[2]


def test_what_comes_with_the_package(tg, server, tmp_path):
    code, out, _ = tg("get", "names", "--to", tmp_path)
    assert code == 0 and (tmp_path / "names.tsv").read_bytes() == shipped("names").read_bytes() and server.asked == 0
    for name in SHIPPED:
        assert Path(tg("path", name)[1].rstrip("\n")).read_text(encoding="utf-8")
        assert name in tg("list")[1]


# ---- the table ------------------------------------------------------------------------------------------------------

def test_where_it_is_kept(monkeypatch):
    for name in ("TINYGRAD_LM_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache() == Path.home() / ".cache" / "tinygrad_lm"
    monkeypatch.setenv("XDG_CACHE_HOME", "elsewhere")
    assert cache() == Path("elsewhere/tinygrad_lm")
    monkeypatch.setenv("TINYGRAD_LM_DATA", "here")
    assert cache() == Path("here")


def test_every_known_text_says_all_that_is_needed():
    assert not KNOWN.keys() & SHIPPED.keys()
    for text in KNOWN.values():
        assert text.files and text.licence and text.source and text.good_for
        for file in text.files:
            assert re.fullmatch("[0-9a-f]{64}", file.sha256) and file.size > 0 and file.address.startswith("https://")


MEASURED = {"tinyshakespeare.txt": "tinyshakespeare.txt", "ChatbotData.csv": "chatbot_ko.csv",
            "vocab.json": "gpt2_encoder.json", "merges.txt": "gpt2_vocab.bpe"}


@pytest.mark.parametrize("name", MEASURED)
def test_checksums_are_those_of_the_files_that_we_measure_with(name):
    path = DATA / MEASURED[name]
    if not path.exists():
        pytest.skip(f"{path} is not here")
    file = next(f for text in KNOWN.values() for f in text.files if f.name == name)
    assert path.stat().st_size == file.size and fetch.checksum([path.read_bytes()]) == file.sha256


@pytest.mark.skipif(os.name == "nt", reason="permissions")
def test_what_is_fetched_can_be_read_by_others(server, tmp_path):
    """As any file that this user writes: a temporary file's mode would keep it from everybody else."""
    (tmp_path / "usual").touch()
    assert fetch.fetch(server.file(), tmp_path).stat().st_mode == (tmp_path / "usual").stat().st_mode
