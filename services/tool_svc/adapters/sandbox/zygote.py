"""The fork server: one small process that never imported gRPC and forks a confined worker on request.

It speaks JSON messages with the service over a SOCK_SEQPACKET pair: `{"op": "spawn", "id", "scratch", "slot", "packages"}`
with four descriptors (the worker's ends of call, result, stdout, stderr) and for a worker with a network a fifth (its channel
to the egress proxy), `{"op": "kill", "id"}`; it answers
`{"event": "exit", "id", "status", "cpu_s", "max_rss_bytes"}`. It kills all workers and ends when the service goes.
"""

import fcntl
import gc
import importlib
import json
import mimetypes
import os
import resource
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from tool_svc.adapters.sandbox import confinement, worker

# Imported once here so that no call pays for it, and because an extension module whose libraries lie outside the
# readable paths could not be loaded later.
_PREIMPORTED = """
    abc argparse array ast asyncio base64 binascii bisect bz2 calendar cmath codecs collections.abc colorsys concurrent.futures
    configparser contextlib contextvars copy csv ctypes dataclasses datetime decimal difflib email.message email.utils
    enum fnmatch fractions functools gettext glob graphlib gzip hashlib heapq hmac html html.parser http inspect io
    ipaddress itertools json keyword linecache locale logging lzma math mimetypes numbers operator os pathlib pickle
    platform pprint queue random re secrets select shlex shutil signal socket sqlite3 statistics string struct
    subprocess sys tarfile tempfile textwrap threading time timeit tokenize traceback types typing unicodedata
    urllib.error urllib.parse urllib.request uuid warnings weakref xml.etree.ElementTree zipfile zlib zoneinfo
"""

_FIRST_LIBRARY_FD = worker.EGRESS_FD + 1
_WORKER_FDS = (worker.CALL_FD, worker.RESULT_FD, 1, 2, worker.EGRESS_FD)
_OWN_FDS_FROM = 40
_TASK_COUNT_AGE_S = 10.0
_MAX_MESSAGE = 65_536


@dataclass
class _State:
    control: socket.socket
    policy: confinement.Policy | None
    first_uid: int | None
    first_own_fd: int
    workers: dict[int, int] = field(default_factory=dict)  # call id of the service → pid
    tasks: int = 0
    tasks_counted_at: float = 0.0


def main(control_fd: int, landlock_abi: int, first_uid: int, scratch_root: str, packages_root: str) -> None:
    """Serve until the service's end closes. `landlock_abi` 0 means: unconfined, by the operator's word.

    Workers run as users `first_uid` + slot when this process may change users (0: never).
    """
    _settle(control_fd)
    control = socket.socket(fileno=_OWN_FDS_FROM)
    control.setblocking(False)
    wakeup_read, wakeup_write = (_move_up(fd) for fd in os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # The service decides when: it closes the control socket.
    library_fds = _preload()
    worker.prepare()
    uid = first_uid if first_uid and confinement.may_change_user() else None
    policy = confinement.Policy(landlock_abi, scratch_root, packages_root) if landlock_abi else None
    state = _State(control, policy, uid, _FIRST_LIBRARY_FD + library_fds)
    gc.collect()
    gc.freeze()
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(wakeup_read, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fd == wakeup_read:
                os.read(wakeup_read, 4096)
                _reap(state)
            elif not _handle(state):
                _end(state)
                return


def _settle(control_fd: int) -> None:
    """Fixed places: /dev/null on 0 and 1, the control socket high, nothing where workers put their descriptors."""
    os.dup2(control_fd, _OWN_FDS_FROM, inheritable=False)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    null = fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, _OWN_FDS_FROM)
    os.closerange(3, _OWN_FDS_FROM)
    for fd in range(3, _FIRST_LIBRARY_FD):
        os.dup2(null, fd)  # So that a received descriptor never lies where a worker's own must go.
    os.umask(0o077)
    os.environ.clear()
    os.chdir("/")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _preload() -> int:
    """Import what tools may want, with the library found through descriptors. Returns how many descriptors it took.

    Workers run as another user, for whom the way to the library may be closed (a home of mode 0700). A path through
    a descriptor that is already open has no way to walk.
    """
    sys.dont_write_bytecode = True
    folders = confinement.standard_library_paths()
    for index, folder in enumerate(folders):
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        if fd != _FIRST_LIBRARY_FD + index:
            os.dup2(fd, _FIRST_LIBRARY_FD + index)
            os.close(fd)
    by_descriptor = {folder: f"/proc/self/fd/{_FIRST_LIBRARY_FD + i}" for i, folder in enumerate(folders)}
    sys.path[:] = by_descriptor.values()
    for module in list(sys.modules.values()):
        _relocate(getattr(module, "__path__", None), by_descriptor)
    for name in _PREIMPORTED.split():
        importlib.import_module(name)
    # Fill the finders' folder listings: workers may read the library's files but not list its top folder.
    for folder in sys.path:
        finder = sys.path_importer_cache.get(folder) or sys.path_hooks[-1](folder)
        finder.find_spec("hearth_no_such_module")
        sys.path_importer_cache[folder] = finder
    mimetypes.knownfiles.clear()
    mimetypes.init()
    time.localtime()
    return len(folders)


def _relocate(package_path: object, by_descriptor: dict[str, str]) -> None:
    """Let a package that was imported by its real path find its other modules through the descriptor."""
    if not isinstance(package_path, list):
        return
    for index, entry in enumerate(package_path):
        for folder, replacement in by_descriptor.items():
            if isinstance(entry, str) and os.path.realpath(entry).startswith(folder + "/"):
                package_path[index] = replacement + os.path.realpath(entry)[len(folder) :]
                break


def _handle(state: _State) -> bool:
    """One message of the service; False when it has gone."""
    try:
        data, fds, _flags, _address = socket.recv_fds(state.control, _MAX_MESSAGE, 8)
    except BlockingIOError:
        return True
    except ConnectionError:  # The service died with messages unread.
        return False
    if not data:
        return False
    message: dict[str, Any] = json.loads(data)
    if message["op"] == "spawn":
        _spawn(state, message, fds)
    elif message["op"] == "kill":
        pid = state.workers.get(message["id"])
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
    for fd in fds:
        os.close(fd)
    return True


def _spawn(state: _State, message: dict[str, Any], fds: list[int]) -> None:
    identity = None
    if state.first_uid is not None:
        identity = confinement.Identity(state.first_uid + message["slot"], state.first_uid + message["slot"])
        headroom = 0
    else:
        headroom = _tasks(state)
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:  # No process or memory to be had now: as if the worker had ended at once.
        _send(state, {"event": "exit", "id": message["id"], "status": 1, "cpu_s": 0.0, "max_rss_bytes": 0})
        return
    if pid == 0:
        needs = confinement.Needs(network=len(fds) > len(_WORKER_FDS) - 1, packages=message["packages"])
        _become_worker(state, message["scratch"], fds, identity, parent, headroom, needs)
    state.workers[message["id"]] = pid


def _become_worker(
    state: _State,
    scratch: str,
    fds: list[int],
    identity: confinement.Identity | None,
    parent: int,
    headroom: int,
    needs: confinement.Needs,
) -> None:
    """In the child: confine, serve one call, end. Never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        for source, target in zip(fds, _WORKER_FDS, strict=False):
            os.dup2(source, target)
        address_space = confinement.address_space()
        confinement.confine(state.policy, scratch, identity, parent, needs)
        os.closerange(state.first_own_fd, 65_536)
        worker.serve_one_call(address_space, headroom, needs)
    except BaseException as error:
        os.write(2, f"sandbox worker: {type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os._exit(0)


def _reap(state: _State) -> None:
    ids = {pid: worker_id for worker_id, pid in state.workers.items()}
    while ids:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        worker_id = ids.pop(pid)
        del state.workers[worker_id]
        event = {
            "event": "exit",
            "id": worker_id,
            "status": os.waitstatus_to_exitcode(status),
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "max_rss_bytes": usage.ru_maxrss * 1024,
        }
        _send(state, event)


def _send(state: _State, event: dict[str, Any]) -> None:
    state.control.setblocking(True)
    try:
        state.control.send(json.dumps(event).encode())
    except OSError:
        return  # The service has gone; the control socket says so next.
    finally:
        state.control.setblocking(False)


def _end(state: _State) -> None:
    for pid in state.workers.values():
        os.kill(pid, signal.SIGKILL)
    for pid in state.workers.values():
        os.waitpid(pid, 0)


def _tasks(state: _State) -> int:
    now = time.monotonic()
    if now - state.tasks_counted_at > _TASK_COUNT_AGE_S:
        state.tasks, state.tasks_counted_at = confinement.count_tasks_of_user(), now
    return state.tasks


def _move_up(fd: int) -> int:
    """The same descriptor above the places that workers use, close-on-exec."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _OWN_FDS_FROM)
    os.close(fd)
    return moved
