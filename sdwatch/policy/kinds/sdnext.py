"""SD.Next. Measured with 058a7f0c. It passes over case in names, ignores unknown settings, and has
some that it does not list. Flags: its answer to /cmd-flags."""

from __future__ import annotations

from sdwatch.policy.kinds.a1111 import OF_THE_FAMILY
from sdwatch.policy.kinds.kind import Completion, Kind, Remedy, Signs, TiledVae, Trial, has_hires

_ENLARGED = Completion("txt2img", "hr_resize_mode", 1, has_hires)
"""It enlarges only with a mode above 0, which is not its default: a hires job as AUTOMATIC1111
takes it came back in its first size (measured). 1 is "fixed"."""

_UPSCALING = Trial(
    stage="extra-single-image",
    fields={"upscaler_1": "None", "upscaling_resize": 1},
    mark="ResProcessImage",
    why="this version of SD.Next answers every upscaling with an error",
)
"""Some versions answer 500 to each (measured)."""

SDNEXT = Kind(
    name="sdnext",
    title="SD.Next",
    signs=Signs(has=("checkpoint",), files=("installer.py",)),
    unlisted_samplers=("Default",),
    joins_sampler_and_scheduler=False,
    hires_lists=("upscalers",),  # which is complete
    useless_lists=(
        ("schedulers", "SD.Next accepts no scheduler in a call, and its list is an error"),
    ),
    fails_at_8x8=True,
    completions=(_ENLARGED,),
    tiled_vae=TiledVae(setting="diffusers_vae_tiling"),  # read before each decoding (source)
    unloads=True,
    says_version=True,
    says_if_loaded=True,
    has_rate_limit=True,
    trials=(_UPSCALING,),
    always_has_api=True,
    examples=("any", "sdnext"),
    remedies={
        **OF_THE_FAMILY,
        Remedy.LESS_MEMORY: "start the WebUI with --medvram or --lowvram",
        Remedy.FULL_PRECISION: "set SD.Next to full precision (in its compute settings)",
        Remedy.VAE_PRECISION: "set SD.Next's VAE to full precision (in its settings)",
        Remedy.ATTENTION: "another attention method in its settings",
        Remedy.CPU: "--use-cpu all",
        Remedy.ADD_ONS: "scripts and extensions",
        Remedy.PASSWORD: "of its --auth",
        Remedy.FLAGS: (
            "SD.Next knows neither --nowebui nor other flags of AUTOMATIC1111 and Forge, and its "
            "`--help` lists those that it knows"
        ),
        Remedy.API: "check that `url` is its own address: SD.Next always has its API",
    },
)
