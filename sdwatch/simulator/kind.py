"""The seam between the kinds of WebUI: what a kind knows and says, and the parts with its ways.

The parts' base classes are Forge's ways. Another kind is one more file like forge.py, with the
few classes that override them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sdwatch.simulator.generation import Machine
from sdwatch.simulator.process import Process
from sdwatch.simulator.site import Site
from sdwatch.simulator.traits import Traits


@dataclass(frozen=True)
class Kind:
    """A kind of WebUI. `lacks` are the simulator's flags that make no sense for it."""

    traits: Traits
    machine: type[Machine] = Machine
    site: type[Site] = Site
    process: type[Process] = Process
    lacks: tuple[str, ...] = ("rate_limit", "extras_work")

    @property
    def name(self) -> str:
        return self.traits.name
