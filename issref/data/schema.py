"""Parse JSON of a known form; pydantic checks it."""

import reprlib
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

Form = TypeVar("Form")


def parse(file: str, form: type[Form], content: str | bytes) -> Form:
    """Return JSON text as a value of the type `form`, without conversions: neither "1" nor true is an int.

    Raises ValueError, naming the file and the first wrong field, if the text is not JSON or of another form.
    """
    try:
        return TypeAdapter(form).validate_json(content, strict=True)
    except ValidationError as error:
        raise ValueError(f"{file}{_problem(error)}") from error


def _problem(error: ValidationError) -> str:
    """Describe the first of the errors: ", data[0].title: expected a valid string, got 3"."""
    first = error.errors(include_url=False)[0]
    kind, need, found = first["type"], first["msg"].removeprefix("Input should be "), reprlib.repr(first["input"])
    if kind == "json_invalid":
        return f": expected JSON, got {need[:100]}"
    keys = (f".{key}" if str(key).isidentifier() else f"[{reprlib.repr(key)}]" for key in first["loc"])
    place = "".join(keys).removeprefix(".")[:100]
    if kind == "missing":
        need, found = "a value", "none"
    if kind == "extra_forbidden":
        need = "no such field"
    return f"{f', {place}' if place else ''}: expected {need}, got {found}"
