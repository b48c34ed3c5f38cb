"""A file from the network, once: checked against its checksum while it comes, and kept as a whole or not at all."""
import os
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

TIMEOUT = 30                                    # seconds that nothing may come
PIECE = 1 << 16                                 # bytes read at once


def is_there(file, folder):
    """Does the File of known_texts lie in the folder, with its checksum? So does one that a person has put there."""
    try:
        with open(Path(folder) / file.name, "rb") as f:
            return checksum(iter(lambda: f.read(PIECE), b"")) == file.sha256
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ValueError(f"cannot read {Path(folder) / file.name}: {error.strerror}") from None


def fetch(file, folder, *, timeout=TIMEOUT, advance=lambda n: None):
    """The path of the file in the folder, fetched if it is not there; advance(bytes) is told how many have come.

    A ValueError in one line where the address does not answer within `timeout` seconds, breaks off, or gives another file:
    then what came is deleted, and what lay in its place before stays.
    """
    folder = Path(folder)
    path = folder / file.name
    if is_there(file, folder):
        return path
    unfinished = folder / f".{file.name}.{os.getpid()}.unfinished"           # two that fetch at once do not meet
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(unfinished, "wb") as f:
            found = checksum(written(f, coming(file, path, timeout), advance))
            came = f.tell()
            f.flush()
            os.fsync(f.fileno())
        check(file, found, came)
        os.replace(unfinished, path)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from None
    finally:
        if unfinished.exists():                              # it has no other name by now: it is worth nothing
            unfinished.unlink()
    return path


def coming(file, path, timeout):
    """Yield the bytes at the file's address in pieces, at most one piece more than there should be."""
    came = 0
    try:
        with urlopen(Request(file.address, headers={"User-Agent": "tinygrad_lm"}), timeout=timeout) as answer:
            while came <= file.size and (piece := answer.read(PIECE)):
                came += len(piece)
                yield piece
    except (OSError, HTTPException) as error:
        raise ValueError(f"{file.address} cannot be fetched: {reason(error, timeout)}. If you have the file, put it there "
                         f"by hand: {path}; the samples that come with the package need no network") from None


def reason(error, timeout):
    """What went wrong with an address, in a few words."""
    if isinstance(error, HTTPError):
        return f"the server says {error.code} {error.reason}"
    error = error.reason if isinstance(error, URLError) else error
    return f"nothing came for {timeout:g} s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


def written(f, pieces, advance):
    """Yield the pieces, each when it was written."""
    for piece in pieces:
        f.write(piece)
        advance(len(piece))
        yield piece


def checksum(pieces):
    """SHA-256 of bytes that come in pieces, as hexadecimal digits."""
    total = sha256()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()


def check(file, found, came):
    """Refuse what is not the file, with the reason that is likeliest."""
    if came < file.size:
        raise ValueError(f"{file.address} broke off after {came:,} of {file.size:,} bytes; what came is deleted: try again")
    if found != file.sha256:
        raise ValueError(f"{file.address} is another file than it was: its sha256 is {found}, expected {file.sha256}; "
                         "what came is deleted")
