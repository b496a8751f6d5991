"""Text fits the place it is given, and loses nothing without saying so."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.drawing import fitted, font, wrapped

FONT = font(11)


@given(st.lists(st.text("abcdefghij", min_size=1, max_size=12), max_size=30), st.integers(1, 400))
def test_wrapped_lines_hold_all_words_and_fit_where_a_word_can(words: list[str], width: int) -> None:
    lines = wrapped(" ".join(words), FONT, width)
    assert " ".join(lines).split() == words
    assert all(FONT.getlength(line) <= width or " " not in line for line in lines)
    starts = [line.split()[0] for line in lines[1:]]
    assert all(
        FONT.getlength(f"{line} {word}") > width for line, word in zip(lines, starts, strict=False)
    )  # none is broken early


@given(st.text("abcdefghij", max_size=40), st.integers(20, 400))
def test_what_does_not_fit_is_cut_and_says_so(text: str, width: int) -> None:
    shown = fitted(text, FONT, width)
    assert FONT.getlength(shown) <= width
    assert shown == text or (shown.endswith("…") and text.startswith(shown[:-1]))
