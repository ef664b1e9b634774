"""Read a file of signatures: signatures.yaml beside this module, or one of the user's. Pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from pydantic import Field, field_validator

from sdwatch.errors import FileProblems
from sdwatch.policy.failure.expression import BuiltinExpression, OwnExpression
from sdwatch.policy.failure.signatures import Compile, Signature
from sdwatch.policy.job.text.document import parse_document
from sdwatch.policy.job.text.typed_values import ONE_OR_MORE, Written, read_model, readable


def parse_signatures(
    data: bytes,
    file: str,
    *,
    builtin: bool = False,
    on_limit: Callable[[str], None] = lambda _: None,
) -> tuple[Signature, ...]:
    """Return the signatures in `data`, in their order. `on_limit`: is called with an expression
    that takes too long, see OwnExpression. Raises FileProblems, placed in `file`."""
    own: Compile = partial(OwnExpression, on_limit=on_limit)
    context = BuiltinExpression if builtin else own
    listed, problems = read_model(parse_document(data, file), _File, "the file", context=context)
    if listed is None:
        raise FileProblems(file, readable(problems))
    return listed.signatures


class _File(Written):
    signatures: Annotated[tuple[Signature, ...], Field(min_length=1), ONE_OR_MORE]

    @field_validator("signatures")
    @classmethod
    def _each_once(cls, entries: tuple[Signature, ...]) -> tuple[Signature, ...]:
        names = [entry.name for entry in entries]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'"{name}" is there twice; keep one')
        return entries
