"""Forge Neo, a fork of Forge with the flags of ComfyUI. Flags: backend/args.py of release 2.22."""

from __future__ import annotations

from sdwatch.policy.kinds.a1111 import OF_THE_FAMILY
from sdwatch.policy.kinds.forge import ANOTHER_VAE, GONE_IN_NEO, NEVER_OOM, SAME_MODULES
from sdwatch.policy.kinds.forge import FILES as OF_FORGE
from sdwatch.policy.kinds.kind import Kind, Remedy, Signs

FILES = (*OF_FORGE, "modules_forge/presets.py")
"""Its presets have no predecessor in Forge (source, commit 1219164a of the branch neo)."""

FORGE_NEO = Kind(
    name="forge-neo",
    title="Forge Neo",
    signs=Signs(has=("sd-modules",), lacks=GONE_IN_NEO, files=FILES),
    exact_names=True,
    refuses_unknown_settings=True,
    ignores_sd_vae=True,
    needs_upscaler=True,
    completions=(SAME_MODULES,),
    tiled_vae=NEVER_OOM,
    unloads=True,
    examples=("any", "a1111", "forge-neo"),
    more_examples=("more", "flux"),
    remedies={
        **OF_THE_FAMILY,
        Remedy.LESS_MEMORY: "start the WebUI with --lowvram or --novram",
        Remedy.FULL_PRECISION: "start the WebUI with --force-fp32 or --force-upcast-attention",
        Remedy.VAE_PRECISION: "start the WebUI with --fp32-vae",
        Remedy.ANOTHER_VAE: ANOTHER_VAE,
        Remedy.ATTENTION: "another attention (--use-pytorch-cross-attention, --disable-xformers)",
        Remedy.CPU: "--cpu --skip-torch-cuda-test",
        Remedy.ADD_ONS: "scripts and extensions",
    },
)
