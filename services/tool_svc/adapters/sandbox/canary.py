"""A tool that tries what no tool may; it returns the list of what it could do, which must be empty."""

ENTRY_POINT = "canary"

# Where confinement was given up by name, only that calls work can be shown: the real one would run a program.
UNCONFINED_SOURCE = "def canary(): return []"

SOURCE = """
import os
import socket


def canary():
    could = []

    def attempt(name, action):
        try:
            action()
        except OSError:
            return
        could.append(name)

    def fork():
        if os.fork() == 0:
            os._exit(0)

    attempt("read /etc/passwd", lambda: open("/etc/passwd").read())
    attempt("list /", lambda: os.listdir("/"))
    attempt("write outside its folder", lambda: os.mkdir("../canary"))
    attempt("open a TCP socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    attempt("open a unix socket", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    attempt("start a process", fork)
    attempt("run a program", lambda: os.execv("/bin/true", ["true"]))
    attempt("signal another process", lambda: os.kill(os.getppid(), 0))
    with open("own", "w") as own:
        own.write("x")
    return could
"""
