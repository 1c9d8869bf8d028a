"""One installation: pip, confined, watched for time and size, into a folder that is complete or not there."""

import ast
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tool_svc.adapters.packages import requirements as rules
from tool_svc.adapters.sandbox import scratch
from tool_svc.interfaces.packages import PackagesUnavailable

_LOG = logging.getLogger(__name__)
_SERVICES_ROOT = Path(__file__).resolve().parents[3]
_BOOT = "import sys; sys.path.insert(0, {root!r}); from tool_svc.adapters.packages import installer; import json; installer.main(json.loads(sys.argv[1]))"
_WATCH_S = 0.2
# Folders of installations that are not done begin so.
UNFINISHED = ".installing-"
_MAX_MESSAGE = 1_500
_URL = re.compile(r"\w+://\S+")
_CONFIGURED = re.compile(r"^(global|install|:env:)\.([a-z-]+)=(.+)$")
_PRECEDENCE = ("global", "install", ":env:")
# How the installer finds its way and its trust on this machine.
_SYSTEM = (
    *("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/usr/share/ca-certificates"),
    *(
        f"/etc/{name}"
        for name in ["resolv.conf", "hosts", "host.conf", "gai.conf", "nsswitch.conf", "services", "ssl", "pki"]
    ),
    *("/etc/ca-certificates", "/etc/localtime", "/usr/share/zoneinfo"),
    # pip tells the index which system it runs on.
    *(f"/etc/{name}" for name in ["os-release", "debian_version", "lsb-release", "redhat-release", "alpine-release"]),
)


@dataclass(frozen=True)
class InstallLimits:
    """What one installation may take."""

    time_s: float = 120.0
    bytes: int = 256 * 1024 * 1024
    memory_bytes: int = 2 * 1024 * 1024 * 1024


class Pip:
    """Installs with the operator's own pip configuration. Raises ValueError where there is no pip."""

    def __init__(self, limits: InstallLimits, *, uid: int, confined: bool) -> None:
        if importlib.util.find_spec("pip") is None:
            raise ValueError("HEARTH_PACKAGES_ALLOWED needs pip in the environment of tool_svc")
        self._limits = limits
        # Another user may have no way to the interpreter (a home of mode 0700); then it stays this one, without capabilities.
        self._uid = uid if all(scratch.others_may_pass(Path(path)) for path in (sys.prefix, sys.base_prefix)) else 0
        self._confined = confined
        self._environment, self._configured_paths = _configuration()

    def install(self, requirements: Sequence[str], target: Path) -> list[str]:
        """Fill an empty folder. Returns what was installed, as requirements with hashes. Raises PackagesUnavailable."""
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=target.parent) as folder:
            work = Path(folder)
            work.chmod(0o711)
            inside = work / "inside"
            inside.mkdir(mode=0o755)
            (work / "requirements.txt").write_text("\n".join(requirements) + "\n")
            (work / "requirements.txt").chmod(0o644)
            report = inside / "report.json"
            arguments = [
                *("install", "--target", str(inside / "site"), "--report", str(report), "--only-binary", ":all:"),
                *("--no-compile", "--no-cache-dir", "--no-input", "--quiet", "--disable-pip-version-check"),
                *("--progress-bar", "off", "-r", str(work / "requirements.txt")),
                *(["--require-hashes"] if rules.have_hashes(requirements) else []),
            ]
            self.run(arguments, inside, work)
            if scratch.used_more_than(inside / "site", self._limits.bytes):
                raise self._too_large()
            installed = _installed(report)
            (inside / "site").rename(target)
            return installed

    def run(self, arguments: Sequence[str], inside: Path, work: Path) -> None:
        """Be pip with these arguments, able to write `inside` only; the log is in `work`. Raises PackagesUnavailable."""
        config = {
            "target": str(inside),
            "arguments": arguments,
            "readable": [*self._readable(), str(work / "requirements.txt")],
            "uid": self._uid,
            "memory_bytes": self._limits.memory_bytes,
            "file_bytes": self._limits.bytes,
            "cpu_s": int(self._limits.time_s) + 1,
            "confined": self._confined,
        }
        environment = {**self._environment, "TMPDIR": str(inside), "HOME": str(inside), "PIP_CONFIG_FILE": os.devnull}
        with (work / "log").open("w+b") as log:
            boot = _BOOT.format(root=str(_SERVICES_ROOT))
            process = subprocess.Popen(
                [sys.executable, "-I", "-X", "utf8", "-c", boot, json.dumps(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
            try:
                self._watch(process, inside)
            finally:
                process.kill()
                process.wait()
            if process.returncode != 0:
                log.seek(0)
                said = log.read(65_536).decode("utf-8", "replace")
                _LOG.warning("packages for tools could not be installed", extra={"pip": said[-4_000:]})
                raise PackagesUnavailable(_explain(said))

    def _watch(self, process: "subprocess.Popen[bytes]", inside: Path) -> None:
        """Wait for the end. Raises PackagesUnavailable when it takes too long or too much."""
        deadline = time.monotonic() + self._limits.time_s
        while True:
            try:
                process.wait(_WATCH_S)
                return
            except subprocess.TimeoutExpired:
                pass
            if time.monotonic() > deadline:
                raise PackagesUnavailable(f"The installation took longer than {self._limits.time_s:g} s.")
            # Twice: pip unpacks into a folder of its own, then moves.
            if scratch.used_more_than(inside, 2 * self._limits.bytes):
                raise self._too_large()

    def _too_large(self) -> PackagesUnavailable:
        return PackagesUnavailable(f"The packages take more than {self._limits.bytes} bytes, or are too many files.")

    def _readable(self) -> list[str]:
        own = [sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")]
        return [*own, str(_SERVICES_ROOT / "tool_svc"), *_SYSTEM, *self._configured_paths]


def _configuration() -> tuple[dict[str, str], list[str]]:
    """Pip's configuration as this service's user has it, as environment variables; and the local paths that it names."""
    listed = subprocess.run(
        [sys.executable, "-I", "-m", "pip", "config", "list"], capture_output=True, text=True, timeout=60, check=False
    ).stdout
    found = [entry.groups() for line in listed.splitlines() if (entry := _CONFIGURED.match(line))]
    found.sort(key=lambda entry: _PRECEDENCE.index(entry[0]))
    environment = {"PIP_" + name.upper().replace("-", "_"): str(ast.literal_eval(value)) for _, name, value in found}
    paths: list[str] = []
    for word in " ".join(environment.values()).split():
        path = unquote(urlsplit(word).path) if word.startswith("file:") else word
        if path.startswith("/"):
            paths.append(os.path.realpath(path))
    return environment, paths


def _installed(report: Path) -> list[str]:
    """The requirements with hashes that a report of pip's tells of."""
    entries = json.loads(report.read_bytes())["install"]
    return sorted(
        f"{entry['metadata']['name']}=={entry['metadata']['version']} "
        f"--hash=sha256:{entry['download_info']['archive_info']['hashes']['sha256']}"
        for entry in entries
    )


def _explain(log: str) -> str:
    """Pip's own errors, without the addresses of the operator's indexes."""
    lines = [line for line in log.splitlines() if line.startswith("ERROR: ") and line != "ERROR: Exception:"]
    lines = lines or log.splitlines()[-1:]
    text = _URL.sub("[address]", "\n".join(lines))[:_MAX_MESSAGE]
    return f"The packages could not be installed. {text}"
