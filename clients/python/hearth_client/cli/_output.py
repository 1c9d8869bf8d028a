"""What comes out of commands: tables and fields for people, JSON for programs, notes on standard error."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

Item = TypeVar("Item")

# A model's or a tool's text must not steer the terminal it is shown on.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """The text without control characters other than newline and tab."""
    return _CONTROL.sub("", text)


def for_terminal(text: str) -> str:
    """The text for standard output: cleaned for a terminal, as it is for a pipe."""
    return clean(text) if sys.stdout.isatty() else text


def to_dict(message: Message) -> dict[str, Any]:
    """Proto JSON with the field names of the API; fields at their default included, so that scripts find them."""
    from google.protobuf.json_format import MessageToDict

    return _whole_numbers(
        MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON with sorted keys: the order in which protobuf lists a map differs from run to run."""
    return json.dumps(value, indent=indent, ensure_ascii=False, sort_keys=True)


def _whole_numbers(value: Any) -> Any:
    """A Struct holds every number as a float; in JSON 6.0 is 6."""
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def print_json(value: Message | Iterable[Message] | Mapping[str, Any]) -> None:
    """One JSON object, or one array."""
    from google.protobuf.message import Message

    if isinstance(value, Message):
        plain: Any = to_dict(value)
    elif isinstance(value, Mapping):
        plain = value
    else:
        plain = [to_dict(message) for message in value]
    click.echo(to_json(plain, indent=2))


def print_json_line(message: Message) -> None:
    """One JSON object on one line, at once."""
    click.echo(to_json(to_dict(message)))


def note(text: str) -> None:
    """Something for the person at the terminal, on standard error."""
    click.echo(click.style(clean(text), dim=True), err=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table; says so if it is empty."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        # An id that is cut is no id.
        table.add_column(column, overflow="fold", no_wrap=column == "id")
    empty = True
    for row in rows:
        empty = False
        table.add_row(*(Text(clean(str(cell))) for cell in row))
    if empty:
        note("none")
        return
    _console().print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """Names and values, one a line (values of several lines are indented); empty values are left out."""
    shown = {name: clean(str(value)) for name, value in fields.items() if value not in ("", None)}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        indented = value.replace("\n", "\n" + " " * (width + 2))
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {indented}")


def print_heading(text: str) -> None:
    """A heading above a part of the output."""
    click.echo(click.style(clean(text), bold=True))


def label(message: Message, field: str) -> str:
    """The value of an enum field, for people: `RUN_STATE_SUCCEEDED` is `succeeded`. Empty if it is not set."""
    enum = message.DESCRIPTOR.fields_by_name[field].enum_type
    number = getattr(message, field)
    if enum is None or number == 0:
        return ""
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper() + "_"
    value = enum.values_by_number.get(number)
    return value.name.removeprefix(prefix).lower().replace("_", " ") if value else str(number)


def when(message: Message, field: str) -> str:
    """A time, local, to the second. Empty if it is absent."""
    if not message.HasField(field):
        return ""
    time: Timestamp = getattr(message, field)
    return time.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def model_label(name: str) -> str:
    """An agent's model, for people: an agent without one uses the default, whichever that is."""
    return f"model {name}" if name else "the default model"


def shorten(text: str, most: int = 60) -> str:
    """The text on one line, cut at `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _console() -> Any:
    from rich.console import Console

    # Piped, a table is as wide as it needs to be.
    return Console(highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else 10_000)


def first(items: Iterable[Item], limit: int) -> list[Item]:
    """The first `limit` items (0: all); a note says when there are more."""
    if limit == 0:
        return list(items)
    taken = list(itertools.islice(items, limit + 1))
    if len(taken) > limit:
        note(f"{limit} shown, there are more (--limit 0 for all)")
    return taken[:limit]
