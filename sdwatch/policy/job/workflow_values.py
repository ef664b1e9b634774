"""What a text of a job file is for an input of a workflow. Pure."""

from __future__ import annotations

import math
import re
from typing import Any

from sdwatch.policy.job.text.document import Scalar
from sdwatch.policy.job.text.typed_values import free

_WHOLE = re.compile(r"[-+]?[0-9]{1,20}")
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")


def as_written(node: Scalar, now: Any) -> Any:
    """Return the value that a text of a job file is for an input whose value is `now`: a text stays
    what it is, as `007` does, and a number is never rounded. Raises ValueError with what it must
    be."""
    text = node.text
    if isinstance(now, str):
        return "" if node.is_null and not text.strip() else text
    if isinstance(now, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError("true or false")
        return text.lower() == "true"
    if isinstance(now, int | float):
        if _WHOLE.fullmatch(text):
            return int(text)
        if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        raise ValueError("a number such as 7 or 7.5")
    return free(node)
