"""An MCP server made with the official SDK: `python sdk_server.py [PORT]` serves streamable HTTP, without PORT stdio.

Its tools show what a well-meant server does: text, structured results, errors, progress, waiting, pictures, a state of
its own.
"""

import asyncio
import os
import sys
from typing import Any

from mcp.server.mcpserver import Context, Image, MCPServer
from pydantic import BaseModel

server = MCPServer("test")
_notes: list[str] = []


class Weather(BaseModel):
    city: str
    degrees: float


@server.tool()
def add(a: int, b: int = 1) -> str:
    """Adds two numbers."""
    return str(a + b)


@server.tool()
def weather(city: str) -> Weather:
    """Says how warm it is."""
    return Weather(city=city, degrees=21.5)


@server.tool()
def fail(words: str) -> str:
    """Fails."""
    raise ValueError(words)


@server.tool()
async def count(to: int, context: Context[Any, Any], saying: str = "at") -> str:
    """Counts and tells how far it is."""
    for number in range(1, to + 1):
        await context.report_progress(number, to, f"{saying} {number}")
    return "done"


@server.tool()
async def wait(seconds: float) -> str:
    """Waits."""
    await asyncio.sleep(seconds)
    return "waited"


@server.tool()
def picture() -> Image:
    """Draws one dot."""
    return Image(data=b"\x89PNG\r\n\x1a\n", format="png")


@server.tool()
def remember(note: str) -> str:
    """Keeps a note while the server runs, and returns all of them."""
    _notes.append(note)
    return " ".join(_notes)


@server.tool()
def environment() -> dict[str, str]:
    """Its environment."""
    return dict(os.environ)


@server.tool()
def attempt(source: str) -> str:
    """Evaluates a Python expression and says what came of it."""
    try:
        return f"could: {eval(source)}"
    except Exception as error:
        return f"could not: {type(error).__name__}: {error}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")
