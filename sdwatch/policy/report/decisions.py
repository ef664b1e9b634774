"""What the recovery gate decided in a run, from its journal, for error.json. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def decisions_in(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what the recovery gate decided, oldest first, from a run's journal."""
    return [
        {
            "at": record.get("at", ""),
            "call": record.get("call", ""),
            "diagnosis": record.get("diagnosis", "")
            or f"canary: {record.get('unhealthy') or 'the WebUI is healthy'}",
            "decision": record["decision"],
            **{key: record[key] for key in ("action", "ground") if key in record},
        }
        for record in records
        if record.get("event") in ("call_failed", "call_self_tested") and "decision" in record
    ]
