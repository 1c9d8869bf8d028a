"""Packages of tools: installed once by a confined installer, from wheels, read by the tools that name them and by no others."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from chassis.channels import open_channel
from chassis.errors import FailedPrecondition, InvalidArgument
from hearth.tool.v1 import tool_execution_service_pb2 as execution_pb
from hearth.tool.v1 import tool_pb2
from tests.integration.tool_svc.service import Executed, Organization, ToolProcess
from tests.integration.tool_svc.wheels import source_distribution, wheel
from tool_svc.adapters.egress.proxy import EgressProxy, EgressSettings
from tool_svc.adapters.packages.pip import InstallLimits, Pip
from tool_svc.adapters.packages.store import PackageFolders
from tool_svc.adapters.sandbox.pool import PoolSettings, SandboxPool
from tool_svc.domain.execution import ExecutionLimits, SandboxCall, Succeeded
from tool_svc.interfaces.packages import PackagesUnavailable

INSTALLER_UID = 63_999 if os.geteuid() == 0 else 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may pass, which pytest's own are not."""
    made = Path(tempfile.mkdtemp(prefix="hearth-packages-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The operator's pip configuration: these wheels and no index."""
    wheels = folder / "wheels"
    wheels.mkdir(mode=0o755)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    wheel(
        wheels,
        "hearth_sample",
        "1.0",
        {"hearth_sample.py": "import hearth_part\nVALUE = hearth_part.VALUE + 1\n"},
        ["hearth_part>=1"],
    )
    wheel(wheels, "hearth_part", "1.5", {"hearth_part.py": "VALUE = 41\n"})
    return wheels


def store_of(folder: Path, max_bytes: int = 1 << 30, **limits: Any) -> PackageFolders:
    pip = Pip(InstallLimits(**limits), uid=INSTALLER_UID, confined=True)
    return PackageFolders(folder / "environments", pip, max_bytes)


@pytest.fixture
async def organization(own_service: ToolProcess, folder: Path, index: Path) -> AsyncIterator[Organization]:
    """Of a service that allows packages."""
    own_service.environment |= {
        "HEARTH_PACKAGES_ALLOWED": "1",
        "HEARTH_PACKAGES_DIR": str(folder / "environments"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(index),
    }
    own_service.start()
    async with open_channel(own_service.address) as channel:
        yield Organization(channel, own_service.issuer)


async def run(organization: Organization, body: str, *requirements: str) -> Executed:
    settings = tool_pb2.ToolSettings(requirements=requirements)
    tool = await organization.member.create(f"def f():\n    {body}", name=f"f{os.urandom(6).hex()}", settings=settings)
    return await organization.member.execute(tool)


SAMPLE = "import hearth_sample; return hearth_sample.VALUE"


async def test_tools_import_what_they_name_and_nothing_else(
    organization: Organization, own_service: ToolProcess
) -> None:
    at_once = await asyncio.gather(*(run(organization, SAMPLE, "hearth-sample==1.0") for _ in range(6)))
    assert [executed.value for executed in at_once] == [42] * 6
    assert own_service.log.read_text().count("packages installed for tools") == 1
    without = await run(organization, SAMPLE)
    assert without.result.error.type == "ModuleNotFoundError"
    other = await run(organization, SAMPLE, "hearth-part")
    assert other.result.error.type == "ModuleNotFoundError"
    assert (await run(organization, "import hearth_part; return hearth_part.VALUE", "hearth-part")).value == 41


async def test_a_failed_installation_is_a_clear_result(organization: Organization) -> None:
    executed = await run(organization, "return 1", "hearth-absent==9.9")
    assert executed.result.state == execution_pb.TOOL_EXECUTION_STATE_FAILED
    assert executed.result.error.type == "PackagesUnavailable"
    assert "hearth-absent==9.9" in executed.result.error.message
    again = await run(organization, "return 1", "hearth-absent==9.9")
    assert again.result.error.message == executed.result.error.message
    assert again.result.duration_ms < 1000


async def test_what_is_no_requirement_is_refused_when_the_tool_is_made(organization: Organization) -> None:
    for requirement in ("--index-url http://127.0.0.1/", "x\n-r /etc/passwd", "x @ file:///etc/passwd", "", "x" * 600):
        with pytest.raises(InvalidArgument) as refused:
            await run(organization, "return 1", requirement)
        assert "requirements" in refused.value.field_violations[0].field


async def test_an_organization_may_be_allowed_none(organization: Organization, own_service: ToolProcess) -> None:
    settings = tool_pb2.ToolSettings(requirements=["hearth-part"])
    source = "import hearth_part\ndef before(): return hearth_part.VALUE\n"
    before = await organization.member.create(source, settings=settings)
    assert (await organization.member.execute(before)).value == 41
    own_service.issuer.limits.set(organization.id, max_tool_packages=0)
    async with asyncio.timeout(20):
        while True:
            try:
                await organization.member.execute(before)
            except FailedPrecondition:
                break
            await asyncio.sleep(0.1)
    for call in (organization.member.execute(before), run(organization, SAMPLE, "hearth-sample")):
        with pytest.raises(FailedPrecondition, match="the organization's limit is 0 packages a tool") as refused:
            await call
        assert refused.value.reason == "PACKAGES_NOT_ALLOWED"
    assert (await run(organization, "return 1")).value == 1
    async with open_channel(own_service.address) as channel:
        stranger = Organization(channel, own_service.issuer)
        assert (await run(stranger, SAMPLE, "hearth-sample", "hearth-part")).value == 42


async def test_where_packages_are_not_allowed(own_service: ToolProcess) -> None:
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization = Organization(channel, own_service.issuer)
        with pytest.raises(FailedPrecondition) as refused:
            await run(organization, "return 1", "hearth-sample")
        assert refused.value.reason == "PACKAGES_NOT_ALLOWED"


async def installed(store: PackageFolders, *requirements: str) -> Path:
    async with store.environment(requirements) as path:
        assert path is not None
        return path


async def test_hashes_hold(folder: Path, index: Path) -> None:
    store = store_of(folder)
    _, digest = wheel(index, "hearth_alone", "1.0", {"hearth_alone.py": ""})
    path = await installed(store, f"hearth_alone==1.0 --hash=sha256:{digest}")
    assert (path / "hearth_alone.py").exists()
    with pytest.raises(PackagesUnavailable, match=r"(?i)hash"):
        await installed(store, f"hearth_alone==1.0 --hash=sha256:{'0' * 64}")
    with pytest.raises(InvalidArgument):
        store.check([f"hearth_alone==1.0 --hash=sha256:{digest}", "hearth_part"])


async def test_what_was_resolved_once_stays_so(folder: Path, index: Path) -> None:
    store = store_of(folder)
    path = await installed(store, "hearth_sample")
    record = json.loads(next((folder / "environments").glob("*.json")).read_text())
    assert [text.split(" --hash=sha256:")[0] for text in record["installed"]] == [
        "hearth_part==1.5",
        "hearth_sample==1.0",
    ]
    wheel(index, "hearth_part", "1.6", {"hearth_part.py": "VALUE = 0\n"})
    shutil.rmtree(path)
    assert (await installed(store, "hearth_sample") / "hearth_part.py").read_text() == "VALUE = 41\n"
    shutil.rmtree(path)
    wheel(index, "hearth_part", "1.5", {"hearth_part.py": "VALUE = 'planted'\n"})
    with pytest.raises(PackagesUnavailable, match=r"(?i)hash"):
        await installed(store, "hearth_sample")


async def test_a_folder_that_others_can_write_is_refused(folder: Path) -> None:
    store_of(folder)
    (folder / "environments").chmod(0o777)
    with pytest.raises(ValueError, match="others can put packages"):
        store_of(folder)


async def test_nothing_is_built(folder: Path, index: Path) -> None:
    source_distribution(index, "hearth_source", "1.0", f"open({str(folder / 'ran')!r}, 'w')\n")
    with pytest.raises(PackagesUnavailable, match="hearth"):
        await installed(store_of(folder), "hearth_source")
    assert not (folder / "ran").exists()


async def test_size_and_time_are_limited(folder: Path, index: Path) -> None:
    wheel(index, "hearth_large", "1.0", {"hearth_large.bin": bytes(8 << 20)})
    with pytest.raises(PackagesUnavailable):
        await installed(store_of(folder, bytes=1 << 20), "hearth_large")
    wheel(index, "hearth_many", "1.0", {f"hearth_many/{n}.bin": os.urandom(400_000) for n in range(20)})
    with pytest.raises(PackagesUnavailable):
        await installed(store_of(folder, bytes=1 << 20), "hearth_many")
    with pytest.raises(PackagesUnavailable, match=r"longer than 0\.05 s"):
        await installed(store_of(folder, time_s=0.05), "hearth_sample")
    assert [path.name for path in (folder / "environments").iterdir() if not path.name.endswith(".lock")] == []


async def test_what_was_least_lately_used_goes_first_and_never_what_is_in_use(folder: Path, index: Path) -> None:
    for number in range(4):
        wheel(index, f"hearth_g{number}", "1.0", {f"hearth_g{number}.bin": os.urandom(300_000)})
    store = store_of(folder, max_bytes=700_000)
    async with store.environment(["hearth_g0"]) as used:
        assert used is not None
        first = await installed(store, "hearth_g1")
        await asyncio.sleep(0.05)
        second = await installed(store, "hearth_g2")
        assert (used.exists(), first.exists(), second.exists()) == (True, False, True)
        await asyncio.sleep(0.05)
    assert (await installed(store, "hearth_g0")) == used  # Lately used, though it was made first.
    third = await installed(store, "hearth_g3")
    assert (used.exists(), second.exists(), third.exists()) == (True, False, True)


_INSTALL = """
import asyncio, sys
from pathlib import Path
from tests.integration.tool_svc.test_packages import installed, store_of
print(asyncio.run(installed(store_of(Path(sys.argv[1])), "hearth_sample")))
"""


async def test_processes_that_share_a_folder_install_once(folder: Path, index: Path) -> None:
    command = [sys.executable, "-c", _INSTALL, str(folder)]
    running = [await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(3)]
    said = [(await process.communicate())[0] for process in running]
    assert len(set(said)) == 1
    assert len(list((folder / "environments").glob("env-*"))) == 1


@pytest.mark.parametrize("confined", [True, False], ids=["confined", "control"])
def test_the_installer_reads_and_writes_nothing_else(confined: bool, folder: Path, index: Path) -> None:
    """`pip hash` reads a file, `pip install --target` writes a folder: both outside."""
    secret = folder / "secret"
    secret.write_text("secret")
    outside = folder / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    inside = folder / "inside"
    inside.mkdir()
    pip = Pip(InstallLimits(), uid=INSTALLER_UID, confined=confined)
    for arguments in (["hash", str(secret)], ["install", "--target", str(outside / "site"), "hearth_part"]):
        with contextlib.nullcontext() if not confined else pytest.raises(PackagesUnavailable):
            pip.run(arguments, inside, folder)
    assert (outside / "site").exists() is not confined


async def test_compiled_packages_work(folder: Path) -> None:
    site = Path(sysconfig.get_path("purelib"))
    settings = PoolSettings(folder / "scratch", packages_root=site)
    pool = SandboxPool(settings, EgressProxy(EgressSettings()))
    await pool.start()
    try:
        source = "import numpy\ndef f(): return int(numpy.linalg.inv(numpy.eye(3)).sum())"
        call = SandboxCall("compiled", source, "f", {}, ExecutionLimits(memory_bytes=512 << 20), packages=site)
        async with contextlib.aclosing(pool.execute(call)) as events:
            assert [event async for event in events][-1] == Succeeded("3")
    finally:
        await pool.stop()
