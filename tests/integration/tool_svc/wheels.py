"""Small wheels, made by hand: a folder of them is all the index that the tests need."""

import base64
import hashlib
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path


def wheel(
    folder: Path, name: str, version: str, files: Mapping[str, str | bytes], requires: Sequence[str] = ()
) -> tuple[Path, str]:
    """Writes one; its path and its SHA-256."""
    base = f"{name}-{version}"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    info = {
        f"{base}.dist-info/METADATA": metadata,
        f"{base}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    contents = {path: text.encode() if isinstance(text, str) else text for path, text in {**files, **info}.items()}
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in contents.items())
    path = folder / f"{base}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, data in {**contents, f"{base}.dist-info/RECORD": record.encode()}.items():
            archive.writestr(inside, data)
    path.chmod(0o644)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def source_distribution(folder: Path, name: str, version: str, setup: str) -> None:
    """Writes one whose setup.py would run if it were built."""
    with tarfile.open(folder / f"{name}-{version}.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo(f"{name}-{version}/setup.py")
        entry.size = len(setup)
        archive.addfile(entry, BytesIO(setup.encode()))


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
