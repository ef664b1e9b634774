"""The seam between the kinds of WebUI: what a kind knows and says, and the parts with its ways.

The parts' base classes are Forge's ways. Another kind is one more file like forge.py, with the
few classes that override them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sdwatch.simulator.generation import Machine
from sdwatch.simulator.process import Process
from sdwatch.simulator.site import Site
from sdwatch.simulator.start_failures import StartFailure
from sdwatch.simulator.traits import Traits

FEW = (
    "rate_limit", "extras_work", "base_directory", "user_directory", "cache_none",
    "disable_metadata", "max_upload_size",
)  # fmt: skip
"""The simulator's flags that are of few kinds."""


@dataclass(frozen=True)
class Kind:
    """A kind of WebUI. `lacks` are the simulator's flags that make no sense for it, `own` those of
    FEW that do. `start_failures`: those of its own, by the
    name of the fault."""

    traits: Traits
    machine: type[Machine] = Machine
    site: type[Site] = Site
    process: type[Process] = Process
    lacks: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    start_failures: Mapping[str, StartFailure] = field(default_factory=dict)

    def takes(self, flag: str) -> bool:
        """Return whether a flag makes sense for it."""
        return flag not in self.lacks and (flag not in FEW or flag in self.own)

    @property
    def name(self) -> str:
        return self.traits.name
