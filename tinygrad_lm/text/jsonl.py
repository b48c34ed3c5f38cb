"""JSONL files: an object a line, and errors that name file, line and field."""
import json

from .corpus import read_text


def read_jsonl(path, make, *, like):
    """[make(item)] for every line's item, a dict; blank lines do not count. A ValueError says where, and what is wrong with
    it; `like` is how an item begins, for its text."""
    found = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            if not isinstance(item, dict):
                raise ValueError(f"an item is an object, {like}, not {line[:40]!r}")
            found.append(make(item))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: this is not JSON: {error}") from None
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    if not found:
        raise ValueError(f"{path} has no items: one is needed a line, as JSON")
    return found


def text_of(item, field, *, where=""):
    """item[field], if it is a text and not blank; `where` stands before the field's name in the error."""
    if field not in item:
        raise ValueError(f'the field "{where}{field}" is missing')
    if not isinstance(item[field], str) or not item[field].strip():
        raise ValueError(f'"{where}{field}" is a text, not {item[field]!r}')
    return item[field]
