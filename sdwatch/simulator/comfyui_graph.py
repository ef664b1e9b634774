"""A workflow's order: which node runs next, and what makes two nodes the same to the cache.

Measured with ComfyUI 0.33.0, 783545f6, and read there: save nodes run as soon as they can.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

Node = dict[str, Any]
Prompt = dict[str, Node]


def links_of(node: Node) -> Iterator[tuple[str, str, int]]:
    """Return each input that comes from another node: its name, that node, its slot."""
    for name, value in node["inputs"].items():
        if isinstance(value, list) and len(value) == 2:
            yield name, value[0], value[1]


def signatures(prompt: Prompt, changed: Callable[[Node], Any]) -> dict[str, str]:
    """Return what the cache knows each node by: its class, its values, and the same of all that it
    comes from; not its id. `changed`: returns what else makes a node differ (a file's content)."""
    found: dict[str, str] = {}

    def of(node_id: str) -> str:
        if node_id not in found:
            node = prompt[node_id]
            linked = {name: [of(source), slot] for name, source, slot in links_of(node)}
            inputs = {**node["inputs"], **linked}
            whole = [node["class_type"], changed(node), inputs, sorted(linked)]
            found[node_id] = sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
        return found[node_id]

    for node_id in prompt:
        try:
            of(node_id)
        except KeyError:  # a link to nowhere, in a part that is left out
            continue
    return found


class Order:
    """What is to run for these save nodes; `is_cached` nodes are not run, unless they are save
    nodes themselves."""

    def __init__(
        self,
        prompt: Prompt,
        outputs: list[str],
        is_cached: Callable[[str], bool],
        is_output: Callable[[str], bool],
    ) -> None:
        self._is_output = is_output
        self._waits_for: dict[str, set[str]] = {}
        stack = list(reversed(outputs))
        while stack:
            node_id = stack.pop()
            if node_id in self._waits_for:
                continue
            sources = [s for _, s, _ in links_of(prompt[node_id]) if not is_cached(s)]
            self._waits_for[node_id] = set(sources)
            stack += [s for s in sources if s not in self._waits_for]

    def __bool__(self) -> bool:
        return bool(self._waits_for)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._waits_for))

    def next(self) -> str:
        """Return the node to run: a save node first, then what a save node waits for."""
        ready = [n for n, sources in self._waits_for.items() if not sources]
        near = [n for n in ready if any(map(self._is_output, self._waiting_for(n)))]
        nearer = [
            n
            for n in ready
            if any(map(self._is_output, (m for w in self._waiting_for(n)
                                         for m in self._waiting_for(w))))
        ]  # fmt: skip
        return next(iter([*filter(self._is_output, ready), *near, *nearer, *ready]))

    def done(self, node_id: str) -> None:
        del self._waits_for[node_id]
        for sources in self._waits_for.values():
            sources.discard(node_id)

    def _waiting_for(self, node_id: str) -> list[str]:
        return [n for n, sources in self._waits_for.items() if node_id in sources]
