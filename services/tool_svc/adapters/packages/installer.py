"""Runs pip in a process that can reach the index, read pip and write one folder, and nothing else.

`python -I installer.py CONFIG`, CONFIG being JSON: {"target", "arguments", "readable", "uid", "memory_bytes", "file_bytes",
"cpu_s", "confined"}. Only wheels are installed, so no code of a package runs; this is for what pip itself might be talked into.
"""

import json
import mimetypes
import os
import resource
import runpy
import signal
import sys
from typing import Any

from tool_svc.adapters.sandbox import kernel, landlock, syscalls


def main(config: dict[str, Any]) -> None:
    """Confine this process, then be pip. Ends with pip's exit code."""
    target: str = config["target"]
    readable = [path for path in config["readable"] if os.path.exists(path)]
    rules = [(os.open(path, os.O_PATH), _reading(path)) for path in readable]
    rules.append((os.open(target, os.O_PATH | os.O_DIRECTORY), landlock.SCRATCH))
    rules += [(os.open(device, os.O_PATH), landlock.READ_WRITE_FILE) for device in ("/dev/null", "/dev/urandom")]
    uid: int = config["uid"]
    if uid:
        os.chown(target, uid, uid)
    os.chdir(target)
    _limit(config)
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    kernel.drop_capabilities(syscalls.current().name)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if config["confined"]:
        ruleset = landlock.Ruleset(landlock.abi_version(), tcp=True)
        for fd, rights in rules:
            ruleset.allow(fd, rights)
        ruleset.restrict_self()
    os.umask(0o022)
    mimetypes.knownfiles.clear()
    # Not what is installed in place of a wheel: pip would look for packages where this process may not read.
    sys.path[:] = [path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix))]
    sys.argv = ["pip", *config["arguments"]]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


def _reading(path: str) -> int:
    return landlock.READ_TREE if os.path.isdir(path) else landlock.READ_FILE


def _limit(config: dict[str, Any]) -> None:
    limits = (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, config["memory_bytes"]),
        (resource.RLIMIT_FSIZE, config["file_bytes"]),
        (resource.RLIMIT_CPU, config["cpu_s"]),
        (resource.RLIMIT_NOFILE, 256),
    )
    for which, value in limits:
        resource.setrlimit(which, (value, value))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
