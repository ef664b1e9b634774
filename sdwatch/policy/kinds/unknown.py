"""A WebUI whose kind is not known: its advice names whose each flag is."""

from __future__ import annotations

from sdwatch.policy.kinds.kind import Kind, Remedy

UNKNOWN = Kind(
    name="unknown",
    title="of an unknown kind",
    is_known=False,
    remedies={
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
        Remedy.ADD_ONS: "scripts and extensions",
        Remedy.PASSWORD: "of its --api-auth (SD.Next: --auth)",
        Remedy.API: "start it with --api",
        Remedy.FLAGS: (
            "its `--help` lists the flags that it knows, and AUTOMATIC1111, Forge, SD.Next and "
            "their forks have different ones"
        ),
    },
)
