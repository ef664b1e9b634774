"""Forge. Measured with dfdcbab6, which accepts --medvram, --no-half and --no-half-vae, and ignores
them. Flags: its answer to /cmd-flags."""

from __future__ import annotations

from sdwatch.policy.kinds.a1111 import FILES as OF_A1111
from sdwatch.policy.kinds.a1111 import OF_THE_FAMILY
from sdwatch.policy.kinds.kind import Completion, Kind, Remedy, Signs, TiledVae, has_hires

FILES = (*OF_A1111, "modules_forge/forge_version.py")

GONE_IN_NEO = ("reload-checkpoint", "hypernetworks", "realesrgan-models")
"""Routes of Forge that Forge Neo has no more (its source, release 2.22)."""

SAME_MODULES = Completion("txt2img", "hr_additional_modules", ["Use same choices"], has_hires)
"""Without it each hires job by API is a 500: TypeError, argument of type 'NoneType' is not iterable
(measured; Forge Neo has the same line). This is what their own page sends."""

ANOTHER_VAE = "name another VAE in the job (override_settings: forge_additional_modules)"

NEVER_OOM = TiledVae(script="never oom integrated", args=(False, True))
"""Its arguments in /script-info: for the UNet, for the VAE. Each call without them ends it."""

FORGE = Kind(
    name="forge",
    title="Forge",
    signs=Signs(has=("sd-modules",), has_some_of=GONE_IN_NEO, files=FILES),
    exact_names=True,
    refuses_unknown_settings=True,
    needs_upscaler=True,
    fails_at_8x8=True,
    completions=(SAME_MODULES,),
    tiled_vae=NEVER_OOM,
    unloads=True,
    examples=("any", "a1111"),
    package="webui",
    more_examples=("more", "flux"),
    remedies={
        **OF_THE_FAMILY,
        Remedy.LESS_MEMORY: "start the WebUI with --always-low-vram or --always-no-vram",
        Remedy.FULL_PRECISION: "start the WebUI with --all-in-fp32 or --force-upcast-attention",
        Remedy.VAE_PRECISION: "start the WebUI with --vae-in-fp32",
        Remedy.ANOTHER_VAE: ANOTHER_VAE,
        Remedy.ATTENTION: "another attention (--attention-pytorch, --attention-quad)",
        Remedy.CPU: "--always-cpu --skip-torch-cuda-test",
        Remedy.ADD_ONS: "scripts and extensions",
    },
)
