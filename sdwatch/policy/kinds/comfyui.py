"""ComfyUI. Measured with 0.33.0 (783545f6). It has none of /sdapi: workflows are queued by /prompt,
and its names are never substituted. Flags: comfy/cli_args.py of 0.33.0."""

from __future__ import annotations

from sdwatch.policy.kinds.kind import Dialect, Kind, Remedy, Signs

COMFYUI = Kind(
    name="comfyui",
    title="ComfyUI",
    dialect=Dialect.PROMPTS,
    signs=Signs(version_in="comfyui_version", files=("main.py", "nodes.py", "comfy/cli_args.py")),
    has_scripts=False,
    has_settings=False,
    stages_without_schema=("txt2img", "img2img", "extra-single-image", "workflow"),
    worker_ends="(prompt_worker):",
    always_has_api=True,
    unloads=True,
    examples=("comfyui",),
    script="main.py",
    package="ComfyUI",
    makes_venv=(
        "make it by hand, in ComfyUI's folder: `python -m venv venv`, then install PyTorch and "
        "requirements.txt with its pip"
    ),
    checkpoints="models/checkpoints",
    remedies={
        Remedy.LESS_MEMORY: "start ComfyUI with --lowvram or --novram",
        Remedy.FULL_PRECISION: "start ComfyUI with --force-fp32 or --force-upcast-attention",
        Remedy.VAE_PRECISION: "start ComfyUI with --fp32-vae (or --cpu-vae)",
        Remedy.ANOTHER_VAE: "use a workflow that loads another VAE",
        Remedy.ATTENTION: (
            "another attention (--use-split-cross-attention, --use-pytorch-cross-attention)"
        ),
        Remedy.CPU: "--cpu",
        Remedy.ADD_ONS: "custom nodes",
        Remedy.FLAGS: "its `--help` lists the flags that it knows",
        Remedy.PASSWORD: "that the proxy in front of it asks for",
        Remedy.API: "check that `url` is the address of its server",
    },
)
