"""Workflows of ComfyUI. Where there are none, only this is loaded: payloads are asked for one."""

WORKFLOW = "own_workflow"
"""The key of a payload that has a workflow of the job's own."""
