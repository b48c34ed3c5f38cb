"""Reading a text to learn from: UTF-8, or an error that says which byte is not, where it stands, and what it probably is."""
import codecs
import re
from pathlib import Path

HANGUL, KANA = re.compile("[가-힣]"), re.compile("[぀-ヿ]")


def is_common(character):
    """Is it one of the 3755 common characters of GB 2312, or Chinese punctuation?"""
    code = character.encode("gb2312", errors="ignore")
    return len(code) == 2 and (0xb0 <= code[0] <= 0xd7 or code[0] in (0xa1, 0xa3))


# (name, name for iconv, is a character usual in it, the share of usual ones that it takes to believe it)
ENCODINGS = (("CP949 (Korean)", "cp949", HANGUL.match, 0.8), ("Shift_JIS (Japanese)", "cp932", KANA.match, 0.3),
             ("EUC-JP (Japanese)", "euc_jp", KANA.match, 0.3), ("GB18030 (Chinese)", "gb18030", is_common, 0.8))
SAMPLE = 1 << 16                                # bytes that are looked at


def read_text(path):
    """The text of a UTF-8 file, a byte order mark left out; ValueError names the file and the reason."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        at = error.start
        line, column = data.count(b"\n", 0, at) + 1, at - data.rfind(b"\n", 0, at)
        name, code = guess_encoding(data)
        raise ValueError(f"{path} is not UTF-8 text (byte {at} is {data[at]:#04x}: line {line}, byte {column} of it). It is "
                         f"probably {name}: convert it first, e.g. with iconv -f {code} -t utf-8 {path}") from None
    if not text:
        raise ValueError(f"{path} is empty: there is nothing to learn from")
    return text


def guess_encoding(data):
    """(name, name for iconv) of the encoding that bytes which are not UTF-8 are probably in."""
    head = data[:SAMPLE]
    zeros = [head[start::2].count(0) for start in (0, 1)]    # the high bytes of blanks and line ends in UTF-16
    if head.startswith(codecs.BOM_UTF16_LE) or zeros[1] > 3 * zeros[0]:
        return "UTF-16, little-endian", "utf-16le"
    if head.startswith(codecs.BOM_UTF16_BE) or zeros[0] > 3 * zeros[1]:
        return "UTF-16, big-endian", "utf-16be"
    for name, code, usual, share in ENCODINGS:
        try:
            text = codecs.getincrementaldecoder(code)().decode(head)
        except UnicodeDecodeError:
            continue
        foreign = [c for c in text if not c.isascii()]
        if foreign and sum(map(bool, map(usual, foreign))) >= share * len(foreign):
            return name, code.replace("_", "-")
    if sum(b >= 0xc0 for b in head) > 0.4 * len(head):       # most letters are foreign ones
        return "Windows-1251 (Cyrillic)", "cp1251"
    return "Windows-1252 or Latin-1 (Western European)", "cp1252"
