"""What a hostile tool tries, and how each attempt must end.

Each attack is a function `attack(t)` that returns "escaped" when it got what it wanted. `t` names targets that the
suite prepared (see `targets.py`). With `hosts` it has a way to the egress proxy and may reach those, with `packages` it may
import from a folder (unconfined it has neither, but the machine's own network). `ends` lists the outcomes that count as stopped. With `control` the same source, run
unconfined, must return "escaped": so the attack is real, not misspelt. `Control.SAME_USER` controls need the target
and the worker to be the same user, so they run only where the suite is not root.
"""

import enum
import textwrap
from dataclasses import dataclass


class Control(enum.Enum):
    ALWAYS = "always"
    SAME_USER = "same_user"
    NONE = "none"


@dataclass(frozen=True)
class Attack:
    name: str
    source: str
    ends: tuple[str, ...]
    control: Control
    hosts: tuple[str, ...] = ()
    packages: bool = False


_PRELUDE = """
import ctypes, os, socket, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def must(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
"""

DENIED = ("Failed:PermissionError",)
ATTACKS: list[Attack] = []


def _attack(
    name: str,
    body: str,
    ends: tuple[str, ...] = DENIED,
    control: Control = Control.NONE,
    hosts: tuple[str, ...] = (),
    packages: bool = False,
) -> None:
    function = "def attack(t):\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n    return 'escaped'\n"
    ATTACKS.append(Attack(name, _PRELUDE + function, ends, control, hosts, packages))


# Files
_attack("read_passwd", "open('/etc/passwd').read()", control=Control.ALWAYS)
_attack("read_other_file", "assert open(t['secret']).read()", control=Control.ALWAYS)
_attack("list_root", "os.listdir('/')", control=Control.ALWAYS)
_attack("list_parent", "os.listdir('..')", control=Control.SAME_USER)
_NEIGHBOURS = """
pool = os.path.dirname(os.getcwd())
folders = [f'{pool}/call-{n}' for n in range(1, 3000)]
others = [folder for folder in folders if os.path.exists(folder) and folder != os.getcwd()]
assert others
"""
_attack("list_neighbours_folder", _NEIGHBOURS + "os.listdir(others[-1])", control=Control.SAME_USER)
_attack("write_in_neighbours_folder", _NEIGHBOURS + "open(others[-1] + '/x', 'w')", control=Control.SAME_USER)
_attack("list_own_code", "os.listdir(os.path.dirname(t['service_file']))", control=Control.ALWAYS)
_attack("read_service_code", "open(t['service_file']).read()", control=Control.ALWAYS)
_attack("read_installed_packages", "os.listdir(t['site_packages'])", control=Control.SAME_USER)
_attack("proc_of_parent", "open(f'/proc/{os.getppid()}/environ', 'rb').read()", control=Control.SAME_USER)
_attack("proc_list", "assert os.listdir('/proc')", control=Control.ALWAYS)
_attack("proc_own_memory", "open('/proc/self/mem', 'rb').close()")
_attack("proc_through_own_descriptor", "open('/proc/self/root/etc/passwd').read()", ends=("Failed:PermissionError",))
_attack(
    "library_descriptor_upwards",
    "os.open('../../../etc/passwd', os.O_RDONLY, dir_fd=6)",
    ends=("Failed:PermissionError", "Failed:FileNotFoundError"),
)
_attack("write_outside", "open(t['outside'] + '/written', 'w').close()", control=Control.ALWAYS)
_attack("mkdir_outside", "os.mkdir(t['outside'] + '/made')", control=Control.ALWAYS)
_attack("delete_outside", "os.unlink(t['outside'] + '/deletable')", control=Control.ALWAYS)
_attack("truncate_outside", "os.truncate(t['outside'] + '/truncatable', 0)", control=Control.ALWAYS)
_attack("rename_outside", "os.rename(t['outside'] + '/movable', t['outside'] + '/moved')", control=Control.ALWAYS)
_attack("symlink_out", "os.symlink(t['secret'], 'link'); assert open('link').read()", control=Control.ALWAYS)
_attack("hardlink_out", "os.link(t['secret'], 'link')", control=Control.SAME_USER)
_attack("chmod_outside", "must(libc.chmod(t['owned'].encode(), 0o777))", control=Control.SAME_USER)
_attack("chown_outside", "os.chown(t['owned'], os.getuid(), os.getgid())", control=Control.SAME_USER)
_attack("utime_outside", "must(libc.utimensat(-100, t['owned'].encode(), None, 0))", control=Control.SAME_USER)
_attack("setxattr", "os.setxattr(t['owned'], 'user.hearth', b'x')")
_attack("mknod_device", "os.mknod('zero', 0o20666, os.makedev(1, 5))")
_attack(
    "shared_memory_file",
    "open('/dev/shm/hearth-attack', 'w').close(); os.unlink('/dev/shm/hearth-attack')",
    control=Control.ALWAYS,
)
_attack("inotify", "must(libc.inotify_init())", control=Control.ALWAYS)
_attack("file_handle", "must(libc.open_by_handle_at(3, None, 0))")
_attack("chroot", "os.chroot('.')")

# Network
_attack("tcp_connect", "socket.create_connection(('127.0.0.1', t['tcp_port']), 2)", control=Control.ALWAYS)
_attack("tcp_listen", "socket.create_server(('127.0.0.1', 0))", control=Control.ALWAYS)
_attack(
    "udp_send",
    "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', t['udp_port']))",
    control=Control.ALWAYS,
)
_attack("name_lookup_socket", "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)", control=Control.ALWAYS)
_attack("raw_socket_call", "must(libc.socket(2, 1, 0))", control=Control.ALWAYS)
_attack("netlink", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", control=Control.ALWAYS)
_attack("unix_connect", "socket.socket(socket.AF_UNIX).connect(t['unix_path'])", control=Control.ALWAYS)
_attack("unix_abstract", "socket.socket(socket.AF_UNIX).connect(t['abstract'])", control=Control.ALWAYS)
_attack(
    "datagram_pair_to_path",
    "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', t['unix_datagram_path'])",
    control=Control.ALWAYS,
)
_attack(
    "stream_pair_with_address",
    "socket.socketpair()[0].sendto(b'x', t['unix_datagram_path'])",
    ends=("Failed:PermissionError",),
)
_attack("pass_descriptors", "a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [4])", control=Control.ALWAYS)


# Network, from a tool that has some: `public.test` is a good address, `private.test` one that nobody may reach.
def _networked(name: str, body: str, ends: tuple[str, ...] = DENIED, control: Control = Control.ALWAYS) -> None:
    _attack(f"networked_{name}", body, ends, control, hosts=("public.test", "private.test", "127.0.0.2"))


_DIRECT = "import _socket\n"
_networked("direct_tcp", _DIRECT + "_socket.socket(2, 1).connect(('127.0.0.1', t['tcp_port']))")
_networked("direct_tcp_by_library", "must(libc.socket(2, 1, 0))")
_networked("direct_udp", _DIRECT + "_socket.socket(2, 2).sendto(b'x', ('127.0.0.1', t['udp_port']))")
_networked("udp", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', t['udp_port']))")
_networked("direct_ipv6", _DIRECT + "_socket.socket(10, 1)", control=Control.NONE)
_networked("netlink", _DIRECT + "_socket.socket(16, 3, 0)")
_networked("unix", _DIRECT + "_socket.socket(1, 1).connect(t['unix_path'])")
_networked("listen", "socket.create_server(('127.0.0.1', 0))")
_networked("private_address", "socket.create_connection(('127.0.0.2', t['private_port']), 2)")
_networked("private_address_odd", "socket.create_connection(('127.2', t['private_port']), 2)")
_networked(
    "private_address_mapped",
    "socket.create_connection(('::ffff:127.0.0.2', t['private_port']), 2)",
    control=Control.NONE,
)
_networked("unnamed_host", "socket.create_connection(('localhost', t['tcp_port']), 2)")
_networked("forbidden_port", "socket.create_connection(('127.0.0.1', t['tcp_port']), 2)")
_networked("private_name", "socket.create_connection(('private.test', 80), 2)", control=Control.NONE)
_networked(
    "pass_channel_on",
    "a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [5 if os.path.exists('/proc/self/fd') else 4])",
)
_networked("reconnect_channel", _DIRECT + "_socket.socket(fileno=5).connect('\\0x')", control=Control.NONE)

# Packages
_attack(
    "write_in_packages",
    "open(t['packages'] + '/env-own/planted.py', 'w').close()",
    control=Control.SAME_USER,
    packages=True,
)
_attack(
    "change_a_package",
    "import hearth_sample; open(hearth_sample.__file__, 'a').close()",
    control=Control.SAME_USER,
    packages=True,
)
_attack(
    "read_others_packages", "open(t['packages'] + '/env-other/hidden.py').read()", control=Control.ALWAYS, packages=True
)
_attack("list_packages_root", "os.listdir(t['packages'])", control=Control.ALWAYS, packages=True)
_attack("packages_not_asked_for", "open(t['packages'] + '/env-own/hearth_sample.py').read()", control=Control.ALWAYS)
_attack("certificates_without_network", "open(t['certificates']).read()", control=Control.ALWAYS)

# Secrets of others: the environment of this process when it began, of its parent, of the service
_attack("environment_at_start", "assert open('/proc/self/environ', 'rb').read()")
_attack(
    "environment_of_service",
    "assert open(f\"/proc/{t['service_pid']}/environ\", 'rb').read()",
    control=Control.SAME_USER,
)
_attack(
    "environment_is_empty",
    "assert [name for name in os.environ if name != 'LC_CTYPE']",
    ends=("Failed:AssertionError",),
)

# Processes
_attack("fork", "pid = os.fork()\nif pid == 0: os._exit(0)", control=Control.ALWAYS)
_attack("fork_bomb", "for _ in range(3):\n  if os.fork() == 0: os._exit(0)", control=Control.ALWAYS)
_attack("vfork_spawn", "os.posix_spawn('/bin/true', ['true'], {})", control=Control.ALWAYS)
_attack("raw_clone", "pid = must(libc.syscall(56, 17, 0, 0, 0, 0))\nif pid == 0: os._exit(0)")
_attack("clone3", "must(libc.syscall(435, 0, 88))", ends=("Failed:OSError",))
_attack("exec", "os.execv('/bin/true', ['true'])")
_attack("subprocess", "import subprocess; subprocess.run(['/bin/true'], check=True)", control=Control.ALWAYS)
_attack(
    "system",
    "assert os.system('true') == 0",
    ends=("Failed:AssertionError", "Failed:PermissionError"),
    control=Control.ALWAYS,
)
_attack("memfd_exec", "fd = os.memfd_create('x'); os.write(fd, b'#!/bin/true'); os.execve(fd, ['x'], {})")
_attack("ptrace", "must(libc.ptrace(16, t['victim_pid'], 0, 0))", control=Control.SAME_USER)
_attack("kill_other", "os.kill(t['victim_pid'], 0)", control=Control.SAME_USER)
_attack("kill_parent", "os.kill(os.getppid(), 9)")
_attack("kill_all", "os.kill(-1, 9)")
_attack("thread_kill_other", "must(libc.syscall(234, t['victim_pid'], t['victim_pid'], 0))", control=Control.SAME_USER)
_attack("pidfd", "os.pidfd_open(t['victim_pid'])", control=Control.ALWAYS)
_attack(
    "signal_by_descriptor_owner",
    "import fcntl; a, b = socket.socketpair(); fcntl.fcntl(a, fcntl.F_SETOWN, t['victim_pid'])",
    control=Control.SAME_USER,
)
_attack(
    "limits_of_other",
    "import resource; resource.prlimit(t['victim_pid'], resource.RLIMIT_NOFILE)",
    control=Control.SAME_USER,
)
_attack(
    "read_memory_of_other",
    "must(libc.process_vm_readv(t['victim_pid'], None, 0, None, 0, 0))",
    control=Control.SAME_USER,
)
_attack("survive_parent", "must(libc.prctl(1, 0, 0, 0, 0))", control=Control.ALWAYS)
_attack("priority_of_other", "os.setpriority(os.PRIO_PROCESS, t['victim_pid'], 5)", control=Control.SAME_USER)
_attack("new_session", "os.setsid()")

# Kernel surface
_attack("setuid_root", "os.setuid(0)")
_attack("user_namespace", "must(libc.unshare(0x10000000))")
_attack("mount", "must(libc.mount(b'none', b'.', b'tmpfs', 0, None))")
_attack("io_uring", "must(libc.syscall(425, 1, 0))")
_attack("bpf", "must(libc.syscall(321, 0, 0, 0))")
_attack("perf", "must(libc.syscall(298, 0, 0, -1, -1, 0))")
_attack("keyring", "must(libc.syscall(250, 0, -3, 0))", control=Control.ALWAYS)
_attack("userfaultfd", "must(libc.syscall(323, 0))")
_attack("shared_memory_segment", "must(libc.shmget(0, 4096, 0o1600))", control=Control.ALWAYS)
_attack("message_queue", "must(libc.msgget(0, 0o1600))", control=Control.ALWAYS)
_attack(
    "raise_limit",
    "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    ends=("Failed:ValueError", "Failed:PermissionError"),
)
_attack("lift_filter", "must(libc.prctl(22, 0, 0, 0, 0))")
_attack("x32_call", "must(libc.syscall(0x40000000 + 39))", ends=("Failed:ToolCrashed", "Failed:OSError"))

# Resources
_attack("allocate_2_gb", "len(bytearray(2 << 30))", ends=("LimitExceeded:memory",))
_attack("allocate_small", "x = []\nwhile True: x.append(bytearray(1 << 20))", ends=("LimitExceeded:memory",))
_attack(
    "map_memory",
    "import mmap; [mmap.mmap(-1, 1 << 28) for _ in range(8)]",
    ends=("Failed:OSError", "LimitExceeded:memory"),
)
_attack("endless_loop", "while True: pass", ends=("LimitExceeded:wall_time", "LimitExceeded:cpu"))
_attack("endless_sleep", "time.sleep(1000)", ends=("LimitExceeded:wall_time",))
_attack(
    "ignore_processor_limit",
    "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nfor n in range(1, 65):\n  try: signal.signal(n, signal.SIG_IGN)\n  except (OSError, ValueError): pass\nwhile True: pass",
    ends=("LimitExceeded:wall_time", "LimitExceeded:cpu"),
)
_attack(
    "regular_expression",
    "import re; re.match(r'(a+)+$', 'a' * 64 + 'b')",
    ends=("LimitExceeded:wall_time", "LimitExceeded:cpu"),
)
_attack(
    "endless_print",
    "while True: print('x' * 10000)",
    ends=("LimitExceeded:output", "LimitExceeded:wall_time", "LimitExceeded:cpu"),
)
_attack(
    "endless_raw_write",
    "while True: os.write(1, b'x' * 65536)",
    ends=("LimitExceeded:output", "LimitExceeded:wall_time", "LimitExceeded:cpu"),
)
_attack("big_file", "open('big', 'wb').write(b'x' * (40 << 20))", ends=("Failed:OSError",), control=Control.NONE)
_attack(
    "many_files",
    "n = 0\nwhile True:\n  open(str(n), 'wb').write(b'x' * (4 << 20)); n += 1",
    ends=("LimitExceeded:scratch",),
)
_attack("deep_folders", "while True:\n  os.mkdir('d'); os.chdir('d')", ends=("LimitExceeded:scratch", "Failed:OSError"))
_attack(
    "hidden_folder",
    "os.mkdir('d', 0o300); os.chdir('d'); time.sleep(1000)",
    ends=("LimitExceeded:scratch", "LimitExceeded:wall_time"),
)
_attack("open_descriptors", "x = [open('f', 'w') for _ in range(100000)]", ends=("Failed:OSError",))
_attack(
    "thread_bomb",
    "x = [threading.Thread(target=time.sleep, args=(1000,), daemon=True) for _ in range(1000)]\n[i.start() for i in x]",
    ends=("Failed:RuntimeError", "LimitExceeded:memory"),
)
_attack("deep_recursion", "def f(): f()\nf()", ends=("Failed:RecursionError",))
_attack(
    "deep_stack",
    "sys.setrecursionlimit(10**8)\nx = []\nfor _ in range(10**6): x = [x]\nrepr(x)",
    ends=("Failed:ToolCrashed", "Failed:RecursionError", "LimitExceeded:memory", "LimitExceeded:wall_time"),
)
_attack("segfault", "ctypes.string_at(0)", ends=("Failed:ToolCrashed",))
_attack("abort", "os.abort()", ends=("Failed:ToolCrashed",))

# The protocol
_attack("exit_silently", "os._exit(0)", ends=("Failed:ToolExited",))
_attack("system_exit", "sys.exit('bye')", ends=("Failed:SystemExit",))
_attack(
    "forged_result",
    "os.write(4, (5).to_bytes(4, 'big') + b'R\"x\"\\n'); time.sleep(5)",
    ends=("Failed:SandboxProtocolError",),
)
_attack("forged_length", "os.write(4, b'\\xff' * 8); time.sleep(5)", ends=("Failed:SandboxProtocolError",))
_attack("closed_channel", "os.close(4)", ends=("Failed:ToolExited",))
_attack("half_frame", "os.write(4, b'\\x00\\x00\\x00\\x50abc'); os._exit(0)", ends=("Failed:ToolExited",))
_attack("huge_result", "return 'x' * (2 << 20)", ends=("LimitExceeded:result_size",))
_attack("nan_result", "return float('nan')", ends=("Failed:TypeError",))
_attack("nested_result", "x = []\nfor _ in range(100000): x = [x]\nreturn x", ends=("Failed:TypeError",))
_attack("circular_result", "x = []; x.append(x)\nreturn x", ends=("Failed:TypeError",))
_attack("surrogate_result", "return '\\ud800'", ends=("Failed:TypeError",))
_attack(
    "evil_error", "class E(Exception):\n  def __str__(self): raise SystemError\nraise E", ends=("Failed:Exception",)
)
_attack("evil_result", "class R(dict):\n  def items(self): raise KeyError\nreturn R(a=1)", ends=("Failed:KeyError",))
