"""Run ids and names of images: letters of every script, within the bounds of every file system."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from sdwatch.policy.job.stage.confinement import DEVICE
from sdwatch.policy.queue.run_names import LONG, SHORT, image_prefix, is_run_id, run_id, slug_of
from tests.support.examples import examples
from tests.support.tables import table

STAMP = "20261123-065243.123"

SLUGS = {
    "Ärger im Büro": "ärger-im-büro",
    "A\u0308rger": "ärger",
    "画像": "画像",
    "привет, мир": "привет-мир",
    "مرحبا بالعالم": "مرحبا-بالعالم",
    "हिन्दी": "हिन्दी",
    "क्\u200dष": "क्ष",
    "\u202egnp.cod": "gnp-cod",
    "\u2066a\u2069\u200fb": "ab",
    "e\u200d\u0301": "é",
    "🏰 castle": "🏰-castle",
    "👍🏽 ok": "👍🏽-ok",
    "a\x00b\tc\x85d\u2028e": "a-b-c-d-e",
    "\u0301x": "x",
    'a:b*c?d<e>f|g"h/i\\\\j': "a-b-c-d-e-f-g-h-i-j",
    "v1.5 ...": "v1-5",
    "\udcff": "job",
    "\u3164\u2800": "job",
    "": "job",
    "CON": "con",
    "①²": "①²",
}


@table(("name", "slug"), SLUGS.items(), ids=map(ascii, SLUGS))
def test_a_slug_keeps_the_letters_of_every_script(name: str, slug: str) -> None:
    assert slug_of(name) == slug
    assert is_run_id(run_id(STAMP, name, "3f2a"))


def test_two_names_that_are_the_same_on_windows_or_macos_give_one_slug() -> None:
    for one, other in [
        ("Ärger", "ÄRGER"),
        ("É", "e\u0301"),
        ("Ж", "ж"),
        ("한", "\u1112\u1161\u11ab"),
    ]:
        assert slug_of(one) == slug_of(other)


def test_a_letter_is_not_parted_from_its_marks_where_a_name_is_cut() -> None:
    assert slug_of("a" * (LONG - 1) + "x\u0301\u0302") == "a" * (LONG - 1)
    assert slug_of("👍🏽" * LONG, SHORT) == "👍🏽" * (SHORT // 4)


def test_marks_stacked_for_fun_leave_the_letters() -> None:
    assert (
        slug_of("z" + "\u0335\u0336" * 90 + "algo")
        .replace("\u0335", "")
        .replace("\u0336", "")
        .startswith("zalgo")
    )


ODD = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Mn", "Mc", "Cf", "So", "Sk", "Lo", "Lu"]),
        st.sampled_from("ab-. _\u0301\u200d\udcff"),
    ),
    max_size=80,
)


@examples(40)
@given(ODD, st.sampled_from([LONG, SHORT]))
def test_every_name_gives_a_slug_that_every_file_system_takes(name: str, most: int) -> None:
    slug = slug_of(name, most)
    assert 0 < len(slug.encode("utf-16-le")) <= 2 * most
    assert len(slug.encode()) <= min(3 * most, 100)
    assert unicodedata.is_normalized("NFC", slug)
    assert slug == slug.lower()
    assert not slug.startswith("-")
    assert not slug.endswith("-")
    assert not set(slug) & set('<>:"/\\\\|?*. _')
    assert not any(unicodedata.category(sign)[0] in "CZ" for sign in slug)
    whole = run_id(STAMP, name, "3f2a")
    assert is_run_id(whole)
    assert not DEVICE.fullmatch(whole)
    prefix = image_prefix(whole)
    assert prefix.startswith("20261123-065243-")
    assert prefix.endswith("-3f2a")
    longest = f".{prefix}_999-extra-single-image_99999-grid.webp.tmp"
    assert len(longest.encode()) <= 143  # eCryptfs
    assert len(f".removed-{whole}".encode()) <= 143


@table(
    "name",
    [
        "my pictures",
        f"{STAMP}-castle",
        f"{STAMP}-Castle-3f2a",
        f"{STAMP}-a b-3f2a",
        f"{STAMP}-a.b-3f2a",
        f"{STAMP}-{'a' * (LONG + 1)}-3f2a",
        f"{STAMP}--3f2a",
        f"{STAMP}-a-3f2a\n",
        f"copy of {STAMP}-a-3f2a",
    ],
)
def test_what_people_put_beside_runs_is_no_run(name: str) -> None:
    assert not is_run_id(name)


def test_ids_of_earlier_versions_are_known() -> None:
    for slug in ("castle", "rger-im-b-ro", "job", "a" * 40):
        assert is_run_id(f"{STAMP}-{slug}-3f2a")


def test_images_of_a_run_in_a_renamed_folder_have_that_name() -> None:
    assert image_prefix("My run") == "my-run"
