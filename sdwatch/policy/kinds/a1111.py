"""AUTOMATIC1111: the first of its family. Measured with v1.10.1.

It takes names as they are written: `euler` and even `k_euler`, an alias in its own list, silently
become DPM++ 2M. Flags: its answer to /cmd-flags. Unloading moves the checkpoint into the
machine's memory (measured); by its source only reload-checkpoint moves it back.
"""

from __future__ import annotations

from sdwatch.policy.kinds.kind import Kind, Remedy, Signs, TiledVae

OF_THE_FAMILY = {
    Remedy.PASSWORD: "of its --api-auth",
    Remedy.API: "start it with --api",
    Remedy.FLAGS: "its `--help` lists the flags that it knows",
    Remedy.ANOTHER_VAE: "name another VAE in the job (override_settings: sd_vae)",
}
"""What AUTOMATIC1111 and its forks have in common."""

FILES = ("modules/launch_utils.py",)
"""Of 1.5 and later, and of its forks."""

A1111 = Kind(
    name="a1111",
    title="AUTOMATIC1111",
    signs=Signs(has=("sd-vae",), lacks=("sd-modules",), files=FILES),
    exact_names=True,
    refuses_unknown_settings=True,
    needs_upscaler=True,
    tiled_vae=TiledVae(script="tiled vae", args=(True,)),  # of the extension multidiffusion
    unloads=True,
    must_load_again=True,
    examples=("any", "a1111"),
    more_examples=("more",),
    remedies={
        **OF_THE_FAMILY,
        Remedy.LESS_MEMORY: "start the WebUI with --medvram or --lowvram",
        Remedy.FULL_PRECISION: (
            'start the WebUI with --no-half, or set "Upcast cross attention layer to float32" in '
            "its settings"
        ),
        Remedy.VAE_PRECISION: "start the WebUI with --no-half-vae",
        Remedy.ATTENTION: "another attention (--xformers, --opt-sdp-attention)",
        Remedy.CPU: "--use-cpu all --no-half --skip-torch-cuda-test",
        Remedy.ADD_ONS: "scripts and extensions",
    },
)
