"""What /api/jobs says of a prompt: its state in one word, and when it was what.

Measured with ComfyUI 0.33.0, 783545f6.
"""

from __future__ import annotations

from typing import Any

from sdwatch.simulator.comfyui_queue import Item, PromptQueue

STATES = ("pending", "in_progress", "completed", "failed", "cancelled")
_SHOWN = {"images", "video", "audio", "3d", "text"}
Job = dict[str, Any]


def jobs_of(queue: PromptQueue) -> list[Job]:
    """Return all jobs, the newest first."""
    running, pending = queue.contents()
    jobs = [
        *(_queued(item, "in_progress") for item in running),
        *(_queued(item, "pending") for item in pending),
        *(_ended(i, entry) for i, entry in queue.history().items()),
    ]
    return sorted(jobs, key=lambda job: job.get("create_time", 0), reverse=True)


def job_of(queue: PromptQueue, prompt_id: str) -> Job | None:
    """Return one job with all that is known of it; None for an id that is not known."""
    for entry in queue.history(prompt_id).values():
        _, _, prompt, extra, _ = entry["prompt"]
        return {
            **_ended(prompt_id, entry),
            "outputs": entry["outputs"],
            "execution_status": entry["status"],
            "workflow": {"prompt": prompt, "extra_data": extra},
        }
    running, pending = queue.contents()
    for items, state in ((running, "in_progress"), (pending, "pending")):
        for item in items:
            if item[1] == prompt_id:
                return _queued(item, state)
    return None


def _queued(item: Item, state: str) -> Job:
    number, prompt_id, _, extra, _, _ = item
    return {
        "id": prompt_id,
        "status": state,
        "priority": number,
        "create_time": extra.get("create_time"),
        "outputs_count": 0,
        "previewable_outputs_count": 0,
    }


def _ended(prompt_id: str, entry: dict[str, Any]) -> Job:
    number, _, _, extra, _ = entry["prompt"]
    messages = dict(entry["status"]["messages"])
    last, data = entry["status"]["messages"][-1]
    files = [
        (node, kind, item)
        for node, output in entry["outputs"].items()
        for kind, items in output.items()
        if kind != "animated"
        for item in items
    ]
    seen = [(node, kind, item) for node, kind, item in files if kind in _SHOWN]
    first = next((each for each in seen if each[2]["type"] == "output"), seen[0] if seen else None)
    job = {
        "id": prompt_id,
        "status": _state(entry["status"]["status_str"], last),
        "priority": number,
        "create_time": extra.get("create_time"),
        "execution_start_time": messages["execution_start"]["timestamp"],
        "execution_end_time": data["timestamp"],
        "execution_error": messages.get("execution_error"),
        "outputs_count": len(files),
        "previewable_outputs_count": len(seen),
        "preview_output": first and {**first[2], "nodeId": first[0], "mediaType": first[1]},
    }
    return {key: value for key, value in job.items() if value is not None}


def _state(status: str, last: str) -> str:
    if status == "success":
        return "completed"
    return "cancelled" if last == "execution_interrupted" else "failed"
