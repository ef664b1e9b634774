"""stable-diffusion.cpp's server. Measured; flags: the option tables of 97d29908. It ignores scripts
and settings in a job."""

from __future__ import annotations

from sdwatch.policy.kinds.kind import Kind, Remedy, Signs

SDCPP = Kind(
    name="sdcpp",
    title="stable-diffusion.cpp",
    signs=Signs(bare_404=True),
    joins_sampler_and_scheduler=False,
    has_scripts=False,
    has_settings=False,
    stages_without_schema=("txt2img", "img2img"),
    remedies={
        Remedy.LESS_MEMORY: "start the server with --offload-to-cpu or --vae-tiling",
        Remedy.FULL_PRECISION: "start the server with --type f32",
        Remedy.VAE_PRECISION: (
            "start the server with --backend vae=cpu (SDXL: --force-sdxl-vae-conv-scale)"
        ),
        Remedy.ANOTHER_VAE: "start the server with another --vae",
        Remedy.ATTENTION: "the attention without --diffusion-fa",
        Remedy.CPU: "--backend cpu",
        Remedy.ADD_ONS: "LoRAs and other extras",
        Remedy.PASSWORD: "that the proxy in front of it asks for",
        Remedy.FLAGS: "its `--help` lists the flags that it knows",
        Remedy.API: "check that `url` is the address of its server",
    },
)
