"""SQL that is asked again and again: each connection parses and plans it once.

PREPARE the first time, then EXECUTE, still in the simple protocol: so several statements and the tenant setting travel in one round
trip and are one implicit transaction, and the database does not parse and plan them again.
"""

import hashlib
import re
from functools import cache

_VALUE = re.compile(r"%\((\w+)\)s")


class Reading:
    """Statements separated by semicolons (none inside of a text), with named values `%(name)s`.

    `prepare` holds what a connection needs once, by handle; `execute` is what is sent each time, with the same named values.
    """

    def __init__(self, statements: str) -> None:
        self.prepare: dict[str, bytes] = {}
        execute: list[str] = []
        for statement in filter(str.strip, statements.split(";")):
            numbers: dict[str, int] = {}
            for name in _VALUE.findall(statement):
                numbers.setdefault(name, len(numbers) + 1)
            body = _VALUE.sub(lambda match, numbers=numbers: f"${numbers[match[1]]}", statement).strip()
            # The same text has the same name in every process, and another text another one.
            handle = f"reading_{hashlib.sha256(body.encode()).hexdigest()[:16]}"
            given = f" ({', '.join(f'%({name})s' for name in numbers)})" if numbers else ""
            self.prepare[handle] = f"PREPARE {handle} AS {body}".encode()
            execute.append(f"EXECUTE {handle}{given}")
        self.execute = ";".join(execute).encode()


@cache
def reading(statements: str) -> Reading:
    """The one Reading of a text. For texts that a program holds, not for such as it makes."""
    return Reading(statements)
