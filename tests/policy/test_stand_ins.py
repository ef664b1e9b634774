"""Names of the inbox have pseudonyms, the same everywhere; common names need none."""

from __future__ import annotations

from sdwatch.policy.privacy.anonymise import Anonymiser
from sdwatch.policy.privacy.pseudonyms import Pseudonyms, without_slugs


def test_a_name_has_the_same_pseudonym_everywhere() -> None:
    known = Pseudonyms()
    known.add_source("lieselotte/anna mueller.yaml")
    known.add_source("lieselotte/batch 2/job.yaml")
    known.add_file("portrait_of_anna.png")
    clean = Anonymiser(names=known.names)
    said = "lieselotte/anna mueller.yaml:1:1 and Lieselotte/batch 2/job.yaml; portrait_of_anna.png"
    assert clean.text(said) == "folder-1/job-1.yaml:1:1 and folder-1/batch 2/job.yaml; file-1.png"


def test_a_name_too_short_to_stand_alone_is_replaced_in_its_path() -> None:
    known = Pseudonyms()
    known.add_source("jo/x1.yaml")
    clean = Anonymiser(names=known.names)
    assert clean.text("jo/x1.yaml, jo or x1") == "folder-1/job-1.yaml, jo or x1"


def test_a_runs_id_keeps_all_but_its_name() -> None:
    said = "20261123-142137.125-purple-hippo-b12c: begins"
    assert without_slugs(said) == "20261123-142137.125-job-b12c: begins"


def test_no_name_is_left_of_a_run_id_in_any_script_nor_of_an_images_name() -> None:
    for slug in ("purple-hippo", "ärger-im-büro", "画像", "🏰-dead-beef", "हिन्दी"):
        for before, behind in (("", ":"), ("done/", "/images"), ("(", ")"), ("replay-", "-1.1-01")):
            said = f"{before}20261123-142137.125-{slug}-b12c{behind}"
            assert without_slugs(said) == f"{before}20261123-142137.125-job-b12c{behind}"
        image = f"images/20261123-142137-{slug}-b12c_1-txt2img_001-01.png"
        assert without_slugs(image) == "images/20261123-142137-job-b12c_1-txt2img_001-01.png"
