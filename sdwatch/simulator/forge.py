"""Forge dfdcbab6 (--nowebui --api), measured in November 2026. Its ways are the parts' own."""

from __future__ import annotations

from sdwatch.simulator.checks import Checks
from sdwatch.simulator.kind import Kind
from sdwatch.simulator.traits import Traits, load, schemas_of
from sdwatch.simulator.validation import Pydantic2
from sdwatch.simulator.voice import Voice

LISTS = load("forge_lists.json")
OPENAPI = load("forge_openapi.json")
JOB_NAMES = {
    "txt2img": "scripts_txt2img",
    "img2img": "scripts_img2img",
    "extra-single-image": "Upscale",
}


class ForgeVoice(Voice):
    version = "f2.0.1v1.10.1-previous-669-gdfdcbab6"
    commit = "dfdcbab685e57677014f05a3309b48cc87383167"


FORGE = Kind(
    Traits(
        name="forge",
        lists=LISTS,
        openapi=OPENAPI,
        schemas=schemas_of(OPENAPI),
        job_names=JOB_NAMES,
        validation=Pydantic2("https://errors.pydantic.dev/2.8/v/"),
        checks=Checks(LISTS),
        voice=ForgeVoice(),
    )
)
