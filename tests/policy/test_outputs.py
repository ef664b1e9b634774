"""Names of outputs from a pattern, and pictures in another format with their settings."""

from __future__ import annotations

import io
import struct
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from sdwatch.errors import JobError
from sdwatch.policy.job.job import Job, parse_job
from sdwatch.policy.job.outputs.converted import converted
from sdwatch.policy.job.outputs.output_names import (
    MOST_UNITS,
    FreeNames,
    is_inside,
    output_name,
)
from sdwatch.policy.job.outputs.picture import NoPictureError, settings_in
from sdwatch.policy.job.outputs.result import Format, OutputWish, wrong_in_pattern
from sdwatch.policy.job.stage.confinement import DEVICE
from tests.support.examples import examples
from tests.support.tables import table

INFOTEXT = "a cästle, 猫 😀\nNegative prompt: bad\nSteps: 5, Sampler: Euler, Seed: 1"


def job_of(text: str) -> Job:
    return parse_job(text.encode(), "job.yaml")


def problems_of(text: str) -> str:
    with pytest.raises(JobError) as caught:
        job_of(text)
    return str(caught.value)


# -- what a job says


@table(
    ("written", "wish"),
    [
        ("'{date}/{name}-{seed}'", OutputWish("{date}/{name}-{seed}")),
        ("off", OutputWish("")),
        ("{format: webp}", OutputWish(None, Format.WEBP)),
        ("{name: 'x {seed}', format: jpeg}", OutputWish("x {seed}", Format.JPEG)),
    ],
)
def test_a_job_names_its_outputs(written: str, wish: OutputWish) -> None:
    assert job_of(f"prompt: x\noutputs: {written}\n").outputs == wish


def test_the_config_fills_in_what_a_job_does_not_say() -> None:
    assert OutputWish().or_else("{seed}", Format.PNG) == OutputWish("{seed}", Format.PNG)
    assert OutputWish("").or_else("{seed}", None) == OutputWish("")
    assert OutputWish("{run}", Format.WEBP).or_else("{seed}", None) == OutputWish(
        "{run}", Format.WEBP
    )


@table(
    ("pattern", "why"),
    [
        ("{sead}", '{sead} is unknown in a name of outputs; did you mean "seed"?'),
        ("{da\nte}", "{da\\nte} is unknown in a name of outputs"),
        ("../{seed}", "relative to their folder"),
        ("/srv/{seed}", "relative to their folder"),
        ("a//b", "relative to their folder"),
        ("a\\b", 'write "/" between'),
        ("a/b/c/d/e/f", "at most 4 folders"),
    ],
)
def test_a_wrong_pattern_is_refused_at_its_place(pattern: str, why: str) -> None:
    assert problems_of(f"prompt: x\noutputs: '{pattern}'\n").startswith("job.yaml:2:10: ")
    assert why in wrong_in_pattern(pattern, ())


def test_the_names_of_a_matrix_may_be_in_a_pattern() -> None:
    text = "prompt: ${animal}\nmatrix: {animal: [cat, owl]}\noutputs: '{animal}/{seed}'\n"
    assert job_of(text).outputs.name == "{animal}/{seed}"
    assert "{animal} is unknown" in problems_of("prompt: x\noutputs: '{animal}'\n")


# -- names


@table(
    ("value", "name"),
    [
        ("castle", "castle"),
        ('a/b\\c:d*e?f"g<h>i|j', "a-b-c-d-e-f-g-h-i-j"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("com1 ", "_com1"),
        ("dots...", "dots"),
        (" .hidden ", "hidden"),
        ("", "picture"),
        ("...", "picture"),
        ("..", "picture"),
        ("a\nb\tc", "a b c"),
        ("exe.\u202egnp", "exe.gnp"),
        ("שלום \u200fעולם", "שלום עולם"),
        ("u\u0308ber", "über"),
        ("half\ud83d", "half"),
        ("猫と夢", "猫と夢"),
        ("~$lock", "lock"),
        ("~$~$.lock", "lock"),
    ],
)
def test_what_is_unsafe_in_a_name_is_replaced(value: str, name: str) -> None:
    assert output_name("{x}", {"x": value}) == name


@table(
    ("pattern", "name"),
    [
        ("{name}-{seed}-{width}", "castle-7"),
        ("{name}-{width}-{seed}", "castle-7"),
        ("{width}-{name}", "castle"),
        ("{name}_{width}x{height}", "castle"),
        ("{width}x{height}, {name}", "castle"),
        ("{width}x{height}/{name}", "picture/castle"),
        ("{name} at night-{width}", "castle at night"),
        ("{name}-{width}-x", "castle-x"),
        ("v2-{width}", "v2"),
    ],
)
def test_a_value_that_is_missing_takes_its_separator_along(pattern: str, name: str) -> None:
    """A latent or a sound has no size."""
    values = {"name": "castle", "seed": "7", "width": "", "height": ""}
    assert output_name(pattern, values) == name


def test_only_the_slashes_of_the_pattern_make_folders() -> None:
    values = {"date": "2026-11-28", "x": "../../etc/passwd"}
    assert output_name("{date}/{x}", values) == "2026-11-28/-..-etc-passwd"


def test_a_long_value_leaves_room_for_what_follows() -> None:
    name = output_name("{prompt}-{seed}", {"prompt": "w" * 500, "seed": "42"})
    assert name == "w" * 80 + "-42"


def test_a_dollar_before_a_brace_is_taken_for_the_same() -> None:
    assert output_name("${x}", {"x": "cat"}) == "cat"


@examples(30)
@given(st.text(max_size=300), st.sampled_from(["{x}", "a{x}b", "{x}/{x}", "{x}.{x}"]))
def test_any_value_makes_a_name_that_every_system_takes(value: str, pattern: str) -> None:
    name = output_name(pattern, {"x": value})
    assert is_inside(name)
    assert name.count("/") == pattern.count("/")
    for part in name.split("/"):
        assert part == part.strip(". ")
        assert 0 < len(part.encode("utf-16-le")) // 2 <= MOST_UNITS
        assert len(part.encode()) <= 128
        assert not DEVICE.fullmatch(part)
        assert not set(part) & set('<>:"\\|?*')
        assert all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in part)


def test_a_name_that_is_taken_gets_a_number_whatever_its_case() -> None:
    names = FreeNames(["A.png", "a-2.PNG", "b.png", "a-4.png"])
    assert [names.take("a", ".png") for _ in range(3)] == ["a-3.png", "a-5.png", "a-6.png"]
    assert names.take("a", ".jpg") == "a.jpg"
    assert names.take("A-5", ".png") == "A-5-2.png"


def test_ten_thousand_equal_names_get_their_numbers_at_once() -> None:
    names = FreeNames()
    assert [names.take("x", ".png") for _ in range(10_000)][-1] == "x-10000.png"


@table("name", ["../x.png", "/x.png", "a/../x", "a\\b", "C:x", "", "a//b", ".", "a\x00b"])
def test_a_name_from_a_journal_that_leads_outside_is_known(name: str) -> None:
    assert not is_inside(name)


# -- formats


def png(mode: str = "RGB", infotext: str = INFOTEXT, size: tuple[int, int] = (24, 16)) -> bytes:
    texts, out = PngImagePlugin.PngInfo(), io.BytesIO()
    if infotext:
        texts.add_text("parameters", infotext)
    Image.new(mode, size, 5 if len(Image.new(mode, (1, 1)).getbands()) == 1 else None).save(
        out, "PNG", pnginfo=texts
    )
    return out.getvalue()


def user_comment(data: bytes) -> tuple[int, bytes]:
    """Return type and bytes of the EXIF comment, read as TIFF is, by nothing of ours."""
    with Image.open(io.BytesIO(data)) as picture:
        exif = picture.info["exif"]
    tiff = exif.removeprefix(b"Exif\0\0")
    assert tiff[:4] == b"MM\0*"
    (at,) = struct.unpack(">L", tiff[4:8])
    for wanted in (0x8769, 0x9286):
        (entries,) = struct.unpack(">H", tiff[at : at + 2])
        found = [
            struct.unpack(">HHLL", tiff[at + 2 + 12 * i : at + 14 + 12 * i]) for i in range(entries)
        ]
        kind, count, at = next(rest for tag, *rest in found if tag == wanted)
    return kind, tiff[at : at + count]


@table("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
@table("wanted", [Format.JPEG, Format.WEBP])
def test_jpeg_and_webp_keep_the_infotext_where_webuis_read_it(mode: str, wanted: Format) -> None:
    made, ending = converted(png(mode), wanted)
    assert ending == {Format.JPEG: ".jpg", Format.WEBP: ".webp"}[wanted]
    # piexif.helper.UserComment.load needs type 7 and these eight bytes (checked with 1.1.3).
    assert user_comment(made) == (7, b"UNICODE\0" + INFOTEXT.encode("utf-16-be"))
    assert settings_in(made) == INFOTEXT
    with Image.open(io.BytesIO(made)) as picture:
        picture.load()
        assert picture.size == (24, 16)


def test_a_png_gets_the_infotext_of_a_jpeg_as_the_text_parameters() -> None:
    jpeg, _ = converted(png(), Format.JPEG)
    made, ending = converted(jpeg, Format.PNG)
    assert ending == ".png"
    with Image.open(io.BytesIO(made)) as picture:
        assert picture.info["parameters"] == INFOTEXT


@pytest.mark.parametrize("wanted", [None, Format.PNG])
def test_a_picture_that_has_the_format_already_stays_byte_for_byte(wanted: Format | None) -> None:
    assert converted(data := png(), wanted) == (data, ".png")


def test_a_picture_without_settings_gets_none() -> None:
    made, _ = converted(png(infotext=""), Format.JPEG)
    assert settings_in(made) == ""


def test_what_a_format_cannot_have_stays_as_it_is() -> None:
    long = png(infotext="x" * 40_000)
    assert converted(long, Format.JPEG) == (long, ".png")
    wide = png(size=(16_400, 1))
    assert converted(wide, Format.WEBP) == (wide, ".png")


def test_transparency_is_white_in_a_jpeg_and_stays_in_a_webp() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(out, "PNG")
    jpeg, _ = converted(out.getvalue(), Format.JPEG)
    webp, _ = converted(out.getvalue(), Format.WEBP)
    with Image.open(io.BytesIO(jpeg)) as picture:
        assert picture.convert("RGB").getpixel((4, 4)) == (255, 255, 255)
    with Image.open(io.BytesIO(webp)) as picture:
        assert picture.mode == "RGBA"


def test_what_is_no_picture_is_not_converted() -> None:
    with pytest.raises(NoPictureError):
        converted(b"no picture", Format.PNG)
