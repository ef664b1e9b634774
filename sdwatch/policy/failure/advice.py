"""What helps against a failure, in the flags and settings of each kind of WebUI. Pure.

Advice names a remedy in braces, as in `try a smaller size, or {less_memory}`; `fitted` puts in what
this kind of WebUI has for it. Flags differ: Forge accepts --medvram, --no-half and --no-half-vae,
and ignores them (measured with Forge dfdcbab6). Sources of the flags: the answers to /cmd-flags of
AUTOMATIC1111 v1.10.1, Forge dfdcbab6 and SD.Next 058a7f0c; backend/args.py of Forge Neo 2.22; the
option tables of stable-diffusion.cpp 97d29908.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from sdwatch.policy.job.catalogue import Kind


class Remedy(StrEnum):
    """What can be done about a failure; each value stands in advice texts, in braces."""

    LESS_MEMORY = "less_memory"
    FULL_PRECISION = "full_precision"
    VAE_PRECISION = "vae_precision"
    ANOTHER_VAE = "another_vae"
    ATTENTION = "attention"
    CPU = "cpu"
    PASSWORD = "password"
    API = "api"


_COMPLETE: Mapping[Remedy, str] = {
    Remedy.PASSWORD: "of its --api-auth",
    Remedy.API: "start it with --api",
    Remedy.ANOTHER_VAE: "name another VAE in the job (override_settings: sd_vae)",
}
"""What AUTOMATIC1111 and its forks have in common."""

_FORGE_VAE = "name another VAE in the job (override_settings: forge_additional_modules)"

REMEDIES: Mapping[Kind, Mapping[Remedy, str]] = {
    Kind.A1111: {
        **_COMPLETE,
        Remedy.LESS_MEMORY: "start the WebUI with --medvram or --lowvram",
        Remedy.FULL_PRECISION: (
            'start the WebUI with --no-half, or set "Upcast cross attention layer to float32" in '
            "its settings"
        ),
        Remedy.VAE_PRECISION: "start the WebUI with --no-half-vae",
        Remedy.ATTENTION: "another attention (--xformers, --opt-sdp-attention)",
        Remedy.CPU: "--use-cpu all --no-half --skip-torch-cuda-test",
    },
    Kind.FORGE: {
        **_COMPLETE,
        Remedy.LESS_MEMORY: "start the WebUI with --always-low-vram or --always-no-vram",
        Remedy.FULL_PRECISION: "start the WebUI with --all-in-fp32 or --force-upcast-attention",
        Remedy.VAE_PRECISION: "start the WebUI with --vae-in-fp32",
        Remedy.ANOTHER_VAE: _FORGE_VAE,
        Remedy.ATTENTION: "another attention (--attention-pytorch, --attention-quad)",
        Remedy.CPU: "--always-cpu --skip-torch-cuda-test",
    },
    Kind.FORGE_NEO: {
        **_COMPLETE,
        Remedy.LESS_MEMORY: "start the WebUI with --lowvram or --novram",
        Remedy.FULL_PRECISION: "start the WebUI with --force-fp32 or --force-upcast-attention",
        Remedy.VAE_PRECISION: "start the WebUI with --fp32-vae",
        Remedy.ANOTHER_VAE: _FORGE_VAE,
        Remedy.ATTENTION: "another attention (--use-pytorch-cross-attention, --disable-xformers)",
        Remedy.CPU: "--cpu --skip-torch-cuda-test",
    },
    Kind.SDNEXT: {
        **_COMPLETE,
        Remedy.LESS_MEMORY: "start the WebUI with --medvram or --lowvram",
        Remedy.FULL_PRECISION: "have SD.Next compute in full precision (its compute settings)",
        Remedy.VAE_PRECISION: "have SD.Next compute the VAE in full precision (its settings)",
        Remedy.ATTENTION: "another attention method in its settings",
        Remedy.CPU: "--use-cpu all",
        Remedy.PASSWORD: "of its --auth",
        Remedy.API: "see that `url` is its own address, for SD.Next always has its API",
    },
    Kind.SDCPP: {
        Remedy.LESS_MEMORY: "start the server with --offload-to-cpu or --vae-tiling",
        Remedy.FULL_PRECISION: "start the server with --type f32",
        Remedy.VAE_PRECISION: (
            "start the server with --backend vae=cpu (SDXL: --force-sdxl-vae-conv-scale)"
        ),
        Remedy.ANOTHER_VAE: "start the server with another --vae",
        Remedy.ATTENTION: "the attention without --diffusion-fa",
        Remedy.CPU: "--backend cpu",
        Remedy.PASSWORD: "that the proxy in front of it wants",
        Remedy.API: "see that `url` is the address of its server",
    },
    Kind.UNKNOWN: {
        Remedy.LESS_MEMORY: (
            "start the WebUI with its flag for less memory (AUTOMATIC1111, SD.Next: --medvram; "
            "Forge: --always-low-vram; Forge Neo: --lowvram)"
        ),
        Remedy.FULL_PRECISION: (
            "start the WebUI with its flag for full precision (AUTOMATIC1111: --no-half; Forge: "
            "--all-in-fp32; Forge Neo: --force-fp32)"
        ),
        Remedy.VAE_PRECISION: (
            "start the WebUI with its flag for a VAE in full precision (AUTOMATIC1111: "
            "--no-half-vae; Forge: --vae-in-fp32; Forge Neo: --fp32-vae)"
        ),
        Remedy.ANOTHER_VAE: "name another VAE in the job",
        Remedy.ATTENTION: "another attention",
        Remedy.CPU: "its flags for the CPU (AUTOMATIC1111, Forge: --skip-torch-cuda-test too)",
        Remedy.PASSWORD: "of its --api-auth (SD.Next: --auth)",
        Remedy.API: "start it with --api",
    },
}
"""One row for each kind; that of an unknown one names whose each flag is."""

_IN_BRACES = re.compile(r"(?P<starts>(?:^|[.!?] ))?\{(?P<name>" + "|".join(Remedy) + r")\}")


def fitted(advice: str, kind: Kind) -> str:
    """Return the advice with each remedy as this kind of WebUI has it; other braces stay."""
    remedies = REMEDIES[kind]

    def words(found: re.Match[str]) -> str:
        text, before = remedies[Remedy(found["name"])], found["starts"]
        return text if before is None else f"{before}{text[:1].upper()}{text[1:]}"

    return _IN_BRACES.sub(words, advice)
