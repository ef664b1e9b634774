"""What is left of a prompt is found, and a log stays readable beside it."""

from __future__ import annotations

import base64
import html
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdwatch.policy.privacy.leftover_words import LeftoverWords

PROMPT = "a Purple Hippopotamus in memory of naïve 雪の中の城, the best of all"


@pytest.fixture
def leftover_words() -> LeftoverWords:
    leftover_words = LeftoverWords(lambda text: "s3cret" in text)
    leftover_words.learn(PROMPT)
    return leftover_words


@pytest.mark.parametrize(
    ("said", "clean"),
    [
        ("purple", "<word>"),
        ("['a</w>', 'hippopotamus</w>']", "['a</w>', '<word></w>']"),
        ("cut in hippopot or popotamus", "cut in <word> or <word>"),
        ("00001-a_purple_hippo.png", "00001-a_<word>_<word>.png"),
        ("masterpiece1purple and 00001Purple.png", "<word> and <word>.png"),
        ("v2Hippopotamus4, =20purple", "<word>, =<word>"),
        ("1best1, 20memory, naiv1", None),
        ("見た雪の中", "<word>"),
        ("a purple h", "a <word> h"),
        ("of all ends, the best of all.", "of all ends<text>."),
        ("x: best\n of the, THE BEST OF ALL", "x: best\n of the<text>"),
        ("CUDA out of memory in the best of", "CUDA out of memory in the best of"),
        ("na\\u00efve and na\\xefve", "<encoded> and <encoded>"),
        (f"at /{quote(PROMPT)}", "at <encoded>"),
        (f"at {quote_plus('purple x')}", "at <word>+x"),
        (html.escape("naïve").replace("ï", "&#239;"), "<encoded>"),
        (base64.b64encode(PROMPT.encode()).decode(), "<encoded>"),
        (base64.b64encode(PROMPT.encode()).decode()[:23], "<encoded>"),
        (base64.b64encode(b"user:s3cret").decode(), "<encoded>"),
        (PROMPT.encode().hex(), "<encoded>"),
        (base64.b64encode(b"\x89PNG" + b"x" * 40).decode(), "<image>"),
        ("stable-diffusion-webui/modules/processing.py", None),
        ("sha256:" + "ab12" * 16, None),
        ("100%|██| 20/20 [00:02<00:00], 50%20", None),
    ],
)
def test_what_is_left_of_a_prompt_is_hidden(
    leftover_words: LeftoverWords, said: str, clean: str | None
) -> None:
    assert leftover_words.hide(said) == (said if clean is None else clean)


def test_beginnings_and_ends_of_usual_words_are_found_when_long_enough() -> None:
    leftover_words = LeftoverWords()
    leftover_words.learn("the model is in the image and the memory is full of errors")
    assert leftover_words.hide("> The model is\n in the im <") == "> <text> <"
    assert leftover_words.hide("x is full of errors") == "x <text>"
    assert leftover_words.hide("the model is not") == "the model is not"
    assert leftover_words.hide("the image and the memory") == "the image and the memory"


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(prompt=st.text(max_size=60), said=st.text(max_size=100))
def test_no_text_raises(prompt: str, said: str) -> None:
    leftover_words = LeftoverWords()
    leftover_words.learn(prompt)
    leftover_words.hide(said + prompt)
