"""Sampler and scheduler of AUTOMATIC1111 as ComfyUI calls them. Pure.

Names: AUTOMATIC1111 v1.10.1 (modules/sd_samplers*.py, modules/sd_schedulers.py) and the lists of
ComfyUI 0.33.0. A sampler without a scheduler gets what AUTOMATIC1111's "Automatic" gives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

_SAMPLERS: Mapping[str, tuple[str, str]] = {
    "DPM++ 2M": ("dpmpp_2m", "karras"),
    "DPM++ SDE": ("dpmpp_sde", "karras"),
    "DPM++ 2M SDE": ("dpmpp_2m_sde", "exponential"),
    "DPM++ 2M SDE Heun": ("dpmpp_2m_sde_heun", "exponential"),
    "DPM++ 2S a": ("dpmpp_2s_ancestral", "karras"),
    "DPM++ 3M SDE": ("dpmpp_3m_sde", "exponential"),
    "Euler a": ("euler_ancestral", "normal"),
    "Euler": ("euler", "normal"),
    "LMS": ("lms", "normal"),
    "Heun": ("heun", "normal"),
    "DPM2": ("dpm_2", "karras"),
    "DPM2 a": ("dpm_2_ancestral", "karras"),
    "DPM fast": ("dpm_fast", "normal"),
    "DPM adaptive": ("dpm_adaptive", "normal"),
    "DDIM": ("ddim", "ddim_uniform"),
    "UniPC": ("uni_pc", "normal"),
    "LCM": ("lcm", "normal"),
    "DDPM": ("ddpm", "normal"),
    # Of Forge, and of SD.Next.
    "HeunPP2": ("heunpp2", "normal"),
    "IPNDM": ("ipndm", "normal"),
    "IPNDM_V": ("ipndm_v", "normal"),
    "DEIS": ("deis", "normal"),
    "SA Solver": ("sa_solver", "normal"),
    "ER-SDE": ("er_sde", "normal"),
}
"""The sampler, and the scheduler that "Automatic" means for it."""

_SCHEDULERS: Mapping[str, str] = {
    "Uniform": "normal",
    "Normal": "normal",
    "Karras": "karras",
    "Exponential": "exponential",
    "SGM Uniform": "sgm_uniform",
    "KL Optimal": "kl_optimal",
    "Simple": "simple",
    "DDIM": "ddim_uniform",
    "Beta": "beta",
}

Value = TypeVar("Value")
_AUTOMATIC = "automatic"
_PLAIN = ("euler", "normal")


def sampler_and_scheduler(sampler: str, scheduler: str = "") -> tuple[str, str]:
    """Return ComfyUI's names. `sampler` may have its scheduler at its end, as `DPM++ 2M Karras`. A
    name that is not in the tables stays as it is: it may be one of ComfyUI's own, which preflight
    looks up in its lists."""
    if not sampler:
        made, automatic = _PLAIN
    else:
        sampler, joined = _parted(sampler)
        scheduler = scheduler if _is_named(scheduler) else joined
        made, automatic = _look_up(_SAMPLERS, sampler) or (sampler, "normal")
    if not _is_named(scheduler):
        return made, automatic
    return made, _look_up(_SCHEDULERS, scheduler) or scheduler


def sampler_names(choices: Iterable[str]) -> list[str]:
    """Return every name that a job may write for a sampler of a ComfyUI that has these."""
    own = list(choices)
    return [*(name for name, (made, _) in _SAMPLERS.items() if made in own), *own]


def scheduler_names(choices: Iterable[str]) -> list[str]:
    """Return every name that a job may write for a scheduler of a ComfyUI that has these."""
    own = list(choices)
    there = [name for name, made in _SCHEDULERS.items() if made in own]
    return [_AUTOMATIC.capitalize(), *there, *own]


def _is_named(scheduler: str) -> bool:
    return bool(scheduler) and scheduler.lower() != _AUTOMATIC


def _parted(sampler: str) -> tuple[str, str]:
    """Return sampler and scheduler of a name that may be both."""
    for scheduler in sorted(_SCHEDULERS, key=len, reverse=True):
        first = sampler.lower().removesuffix(f" {scheduler.lower()}")
        if first != sampler.lower() and any(first == name.lower() for name in _SAMPLERS):
            return sampler[: len(first)], scheduler
    return sampler, ""


def _look_up(table: Mapping[str, Value], name: str) -> Value | None:
    return next((value for key, value in table.items() if key.lower() == name.lower()), None)
