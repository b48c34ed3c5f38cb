"""Figures write Hangul where a font has it, and are told so where none has."""
import warnings

import matplotlib
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from tinygrad_lm.train.report import HANGUL_FONTS, hangul_font, panels, png


@pytest.fixture(autouse=True)
def settings_come_back():
    with matplotlib.rc_context():
        yield


def font_file(path, characters):
    """A font in which every character is a square."""
    names = [".notdef", *(f"u{ord(c):04X}" for c in characters)]
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0)), pen.lineTo((0, 800)), pen.lineTo((800, 800)), pen.lineTo((800, 0)), pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(c): name for c, name in zip(characters, names[1:])})
    font.setupGlyf(dict.fromkeys(names, pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(names, (900, 0)))
    font.setupHorizontalHeader(ascent=900, descent=-100)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)
    return path


def missing_letters(text):
    """What matplotlib says it cannot write."""
    figure, (ax,) = panels(1, 1)
    ax.set_title(text)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        png(figure)
    return [str(w.message) for w in said if "missing from font" in str(w.message)]


def test_the_first_font_of_the_list_that_is_installed():
    assert hangul_font(installed={"DejaVu Sans", "Malgun Gothic", "NanumGothic"}) == "NanumGothic"
    assert matplotlib.rcParams["font.family"] == ["DejaVu Sans", "NanumGothic"]
    assert all(hangul_font(installed=[name]) == name for name in HANGUL_FONTS)


def test_where_none_is_installed_nothing_changes():
    before = list(matplotlib.rcParams["font.family"])
    assert hangul_font(installed={"DejaVu Sans", "Comic Sans MS"}) is None and hangul_font(installed=()) is None
    assert matplotlib.rcParams["font.family"] == before


def test_a_file(tmp_path):
    path = font_file(tmp_path / "squares.ttf", "한국어")
    assert missing_letters("한국어 and English")
    assert hangul_font(path) == "Squares" and missing_letters("한국어 and English") == []


def test_a_file_that_will_not_do(tmp_path):
    with pytest.raises(ValueError, match="squares.ttf has no Hangul"):
        hangul_font(font_file(tmp_path / "squares.ttf", "abc"))
    (tmp_path / "text.ttf").write_text("no font")
    for name in ("text.ttf", "nowhere.ttf"):
        with pytest.raises(ValueError, match=f"{name} is not a font that can be read"):
            hangul_font(tmp_path / name)
