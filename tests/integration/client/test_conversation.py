"""`hearth chat` at a terminal: history, turns, Ctrl-C and Ctrl-D."""

import asyncio
import os
import pty
import sys

from hearth.agent.v1.conversation_pb2 import Message, MessageRole
from tests.fakes.hearth_server import API_KEY, FakeHearth
from tests.fakes.run_log import RunLog, Script


class Terminal:
    """A program at a pseudo-terminal."""

    def __init__(self, server: FakeHearth) -> None:
        self._server = server
        self.shown = ""

    async def __aenter__(self) -> "Terminal":
        self._ours, theirs = pty.openpty()
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hearth_client", "chat", "--agent", "demo"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "HEARTH_URL": self._server.url,
                "HEARTH_API_KEY": API_KEY,
                "TERM": "dumb",
                "HEARTH_DEBUG": "1",
            },
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._ours, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._ours)
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        os.close(self._ours)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    async def until(self, text: str) -> None:
        """Waits until the text is shown, and forgets what was shown up to it."""
        try:
            async with asyncio.timeout(20):
                while text not in self.shown:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} is not in {self.shown!r}") from None
        self.shown = self.shown.split(text, 1)[1]

    def _read(self) -> None:
        try:
            self.shown += os.read(self._ours, 65536).decode(errors="replace")
        except OSError:
            asyncio.get_running_loop().remove_reader(self._ours)
        self._news.set()


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


async def test_a_conversation(server: FakeHearth) -> None:
    server.history = [
        Message(id="msg_1", role=MessageRole.MESSAGE_ROLE_USER, text="My dog is called Rex."),
        Message(id="msg_2", role=MessageRole.MESSAGE_ROLE_ASSISTANT, text="Noted.\x1b[2J"),
    ]
    async with Terminal(server) as terminal:
        await terminal.until("My dog is called Rex.")
        await terminal.until("Noted.[2J")
        await terminal.until("you> ")

        server.log = RunLog(Script().said("hi").writes("m1", "He", "llo").completed("m1", "Hello").succeeded().frames)
        terminal.type("hi\n")
        await terminal.until("Hello")
        await terminal.until("you> ")

        script = (
            Script().said("long").writes("m2", "Once upon ", "a time").completed("m2", "Once upon a time").succeeded()
        )
        server.log = RunLog(script.frames, hold_after=4)
        terminal.type("long\n")
        await terminal.until("Once upon ")
        terminal.type("\x03")
        await terminal.until("the run was cancelled")
        await terminal.until("you> ")

        server.log = RunLog(Script().said("x").failed("MODEL_UNAVAILABLE", "no answer").frames)
        terminal.type("again\n")
        await terminal.until("no answer (MODEL_UNAVAILABLE)")
        await terminal.until("you> ")

        terminal.type("\x04")
        async with asyncio.timeout(10):
            assert await terminal.process.wait() == 0
    assert server.count("CancelRun") == 1
    assert server.count("SendMessage") == 3
