"""What ComfyUI makes of a workflow before it queues it.

Measured with ComfyUI 0.33.0, 783545f6, and read there. Raising anything but RefusedPromptError is
a 500, as for a workflow in the editor's own format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Prompt = dict[str, Any]
Error = dict[str, Any]

_LONGEST_LIST = 20
"""Lists up to here are given whole in an error."""
_CONVERSIONS: dict[Any, Callable[[Any], Any]] = {
    "INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool,
}  # fmt: skip


MISTAKES = (LookupError, TypeError, ValueError, AttributeError)
"""What a workflow of a wrong shape is an exception of."""


class RefusedPromptError(Exception):
    """A 400; `error` and `node_errors` are its body."""

    def __init__(self, error: Error, node_errors: dict[str, Any] | None = None) -> None:
        self.error = error
        self.node_errors = node_errors or {}
        super().__init__(error["message"])


def error_of(kind: str, message: str, details: str = "", **extra: Any) -> Error:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


@dataclass
class Validation:
    """One workflow held against the classes of nodes. `check_file`: returns whether LoadImage would
    find a file of this name. `printed`: the lines about what is wrong, for the log."""

    prompt: Prompt
    classes: dict[str, Any]
    check_file: Callable[[str], bool]
    results: dict[str, tuple[bool, list[Error]]] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)

    def outputs(self, only: list[str] | None) -> tuple[list[str], dict[str, Any]]:
        """Return the save nodes that can be run, and what is wrong with the others. Values are
        converted in the prompt itself. Raises RefusedPromptError where none can be run."""
        wanted = [each for each in self._output_nodes() if only is None or each in only]
        if not wanted:
            raise RefusedPromptError(error_of("prompt_no_outputs", "Prompt has no outputs"))
        good: list[str] = []
        node_errors: dict[str, Any] = {}
        details: list[str] = []
        for node_id in wanted:
            valid, errors = self._result_of_output(node_id)
            if valid:
                good.append(node_id)
                continue
            details += [f"{e['message']}: {e['details']}" for e in errors]
            self.printed.append(f"Failed to validate prompt for output {node_id}:")
            if errors:
                self._print("(prompt)", errors)
            self._blame(node_id, node_errors)
            self.printed.append("Output will be ignored")
        if not good:
            message = "Prompt outputs failed validation"
            error = error_of("prompt_outputs_failed_validation", message, "\n".join(details))
            raise RefusedPromptError(error, node_errors)
        return good, node_errors

    def _output_nodes(self) -> list[str]:
        found = []
        for node_id, node in self.prompt.items():
            title = node.get("_meta", {}).get("title") if "class_type" not in node else None
            if "class_type" not in node:
                name, cause = title or f"ID #{node_id}", "has no class_type. The workflow may be "
                message = f"Node '{name}' {cause}corrupted or a custom node is missing."
                raise _missing(message, node_id, None, title)
            kind = node["class_type"]
            if kind not in self.classes:
                title = node.get("_meta", {}).get("title", kind)
                message = f"Node '{title}' not found. The custom node may not be installed."
                raise _missing(message, node_id, kind, title)
            if self.classes[kind]["output_node"]:
                found.append(node_id)
        return found

    def _result_of_output(self, node_id: str) -> tuple[bool, list[Error]]:
        try:
            return self._result(node_id)
        except MISTAKES as e:
            extra = {"exception_type": type(e).__name__, "traceback": _traceback()}
            error = error_of(
                "exception_during_validation", "Exception when validating node", str(e), **extra
            )
            self.results[node_id] = (False, [error])
            return self.results[node_id]

    def _blame(self, output: str, node_errors: dict[str, Any]) -> None:
        for node_id, (valid, errors) in self.results.items():
            if valid or not errors:
                continue
            if node_id not in node_errors:
                kind = self.prompt[node_id]["class_type"]
                node_errors[node_id] = {
                    "errors": errors,
                    "dependent_outputs": [],
                    "class_type": kind,
                }
                self._print(f"{kind} {node_id}", errors)
            node_errors[node_id]["dependent_outputs"].append(output)

    def _print(self, what: str, errors: list[Error]) -> None:
        reasons = (f"  - {e['message']}: {e['details']}" for e in errors)
        self.printed += [f"* {what}:", *reasons]

    # -- one node

    def _result(self, node_id: str) -> tuple[bool, list[Error]]:
        if node_id in self.results:
            return self.results[node_id]
        if node_id in self.path:
            return self._cycle(node_id)
        node = self.prompt[node_id]
        inputs, kind = node["inputs"], self.classes[node["class_type"]]
        valid, errors = True, list[Error]()
        for part in ("required", "optional"):
            for name, spec in kind["input"].get(part, {}).items():
                if name not in inputs:
                    if part == "required":
                        errors.append(_input_error("required_input_missing", name, name))
                elif isinstance(inputs[name], list):
                    followed, error = self._link(node_id, name, _info(spec), inputs[name])
                    valid = valid and followed
                    errors += error
                else:
                    errors += self._value(node["class_type"], name, spec, inputs)
        earlier = self.results.get(node_id, (True, []))  # a cycle may have put something there
        self.results[node_id] = (valid and not errors and earlier[0], [*earlier[1], *errors])
        return self.results[node_id]

    def _cycle(self, node_id: str) -> tuple[bool, list[Error]]:
        nodes = [*self.path[self.path.index(node_id) :], node_id]
        path = " -> ".join(f"{each} ({self.prompt[each]['class_type']})" for each in nodes)
        ids = list(dict.fromkeys(nodes))
        for each in ids:
            extra = {"node_id": each, "cycle_nodes": ids}
            error = error_of("dependency_cycle", "Dependency cycle detected", path, **extra)
            self.results[each] = (False, [error])
        return self.results[node_id]

    def _link(
        self, node_id: str, name: str, info: list[Any], value: list[Any]
    ) -> tuple[bool, list[Error]]:
        """Return whether what a link leads to is valid, and what is wrong with the link."""
        if len(value) != 2:
            extra = {"input_config": info, "received_value": value}
            return True, [_input_error("bad_linked_input", name, name, **extra)]
        source, slot = value
        # A source that is not there is a KeyError, which the caller of this node notes.
        made = self.classes[self.prompt[source]["class_type"]]["output"][slot]
        if "*" not in (made, info[0]) and made != info[0]:  # * is any
            details = f"{name}, received_type({made}) mismatch input_type({info[0]})"
            mismatch: Error = {"input_config": info, "received_type": made, "linked_node": value}
            return True, [_input_error("return_type_mismatch", name, details, **mismatch)]
        self.path.append(node_id)
        try:
            return self._result(source)[0], []
        except MISTAKES as e:
            inner: Error = {
                "input_config": info,
                "exception_message": str(e),
                "exception_type": type(e).__name__,
                "traceback": _traceback(),
                "linked_node": value,
            }
            kind = "exception_during_inner_validation"
            self.results[source] = (False, [_input_error(kind, name, str(e), **inner)])
            return False, []
        finally:
            self.path.pop()

    def _value(self, kind: str, name: str, spec: list[Any], inputs: Prompt) -> list[Error]:
        info = _info(spec)
        value = inputs[name]
        if isinstance(value, dict) and "__value__" in value:
            value = inputs[name] = value["__value__"]
        if not isinstance(info[0], list) and info[0] in _CONVERSIONS:
            try:
                value = inputs[name] = _CONVERSIONS[info[0]](value)
            except (TypeError, ValueError, OverflowError) as e:
                extra = {
                    "input_config": info, "received_value": value, "exception_message": str(e),
                }  # fmt: skip
                details = f"{name}, {value}, {e}"
                error = _input_error("invalid_input_type", name, details, **extra)
                error["message"] = f"Failed to convert an input value to a {info[0]} value"
                return [error]
        if kind in ("LoadImage", "LoadImageMask") and name == "image":
            return self._file(name, value)
        return _outside_range(name, info, value) or _not_in_list(name, info, value)

    def _file(self, name: str, value: Any) -> list[Error]:
        if self.check_file(value):
            return []
        details = f"{name} - Invalid image file: {value}"
        return [_input_error("custom_validation_failed", name, details)]


def _missing(message: str, node_id: str, kind: str | None, title: str | None) -> RefusedPromptError:
    extra = {"node_id": node_id, "class_type": kind, "node_title": title}
    return RefusedPromptError(
        error_of("missing_node_type", message, f"Node ID '#{node_id}'", **extra)
    )


_MESSAGES = {
    "required_input_missing": "Required input is missing",
    "bad_linked_input": "Bad linked input, must be a length-2 list of [node_id, slot_index]",
    "return_type_mismatch": "Return type mismatch between linked nodes",
    "exception_during_inner_validation": "Exception when validating inner node",
    "custom_validation_failed": "Custom validation failed for node",
    "value_not_in_list": "Value not in list",
}


def _input_error(kind: str, name: str, details: str, **extra: Any) -> Error:
    return error_of(kind, _MESSAGES.get(kind, ""), details, input_name=name, **extra)


def _info(spec: list[Any]) -> list[Any]:
    """Return type and options of an input, as errors name them."""
    return [spec[0], spec[1] if len(spec) > 1 else {}]


def _outside_range(name: str, info: list[Any], value: Any) -> list[Error]:
    extra = {"input_config": info, "received_value": value}
    for limit, word in (("min", "smaller"), ("max", "bigger")):
        if limit not in info[1]:
            continue
        bound = info[1][limit]
        if value < bound if limit == "min" else value > bound:
            error = _input_error(f"value_{word}_than_{limit}", name, name, **extra)
            error["message"] = f"Value {value} {word} than {limit} of {bound}"
            return [error]
    return []


def _not_in_list(name: str, info: list[Any], value: Any) -> list[Error]:
    if isinstance(info[0], list):
        listed = info[0]
    elif info[0] == "COMBO":
        listed = info[1].get("options", [])
    else:
        return []
    if value in listed:
        return []
    is_long = len(listed) > _LONGEST_LIST
    given = f"(list of length {len(listed)})" if is_long else str(listed)
    extra = {"input_config": None if is_long else info, "received_value": value}
    details = f"{name}: {value!r} not in {given}"
    return [_input_error("value_not_in_list", name, details, **extra)]


def _traceback() -> list[str]:
    return ['  File "<comfyui>/execution.py", line 933, in validate_inputs\n    simulated\n']
