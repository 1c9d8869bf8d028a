"""When all is over: the conversations as stored, once nothing happens in them any more."""

import asyncio

import psycopg

from deploy.local import Stack
from tests.reliability.checker import read
from tests.reliability.checker.stored import StoredConversation


async def at_rest(stack: Stack, conversations: list[str]) -> list[StoredConversation] | None:
    """What is stored, None while a run is unfinished or nobody answers."""
    try:
        stored = await asyncio.to_thread(read, stack.superuser_url("hearth_agent"), conversations)
    except psycopg.OperationalError:
        return None
    return stored if all(one.at_rest for one in stored) else None
