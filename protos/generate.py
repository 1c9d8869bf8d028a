"""Generates Python code, type stubs, the descriptor set and two pages of docs/ from the protos.

`python protos/generate.py` rewrites `gen/` and those pages; with `--check` it changes nothing and exits 1 when they differ from what the protos say. Code comes from grpcio-tools, stubs from mypy-protobuf.
"""

import filecmp
import os
import shutil
import sys
import tempfile
from pathlib import Path

import access_page
import error_reasons
import grpc_tools
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
GENERATED = ROOT / "gen"
DOCS = ROOT.parent / "docs"
# Installed with googleapis-common-protos; here only so that buf can lint without a network.
NOT_GENERATED = ("google",)


def main() -> int:
    """Generates, or checks; returns the exit code."""
    check = "--check" in sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "gen"
        pages = generate(fresh)
        if not check:
            shutil.rmtree(GENERATED, ignore_errors=True)
            shutil.copytree(fresh, GENERATED)
            for name, text in pages.items():
                (DOCS / name).write_text(text)
            return 0
        differing = differences(fresh, GENERATED)
        for name, text in pages.items():
            if not (DOCS / name).exists() or (DOCS / name).read_text() != text:
                differing.append(f"docs/{name}")
    for name in differing:
        print(f"generated code differs from the protos: {name}", file=sys.stderr)
    if differing:
        print("run `make proto` and commit the result", file=sys.stderr)
    return 1 if differing else 0


def generate(target: Path) -> dict[str, str]:
    """Writes `target/python` and `target/descriptors.binpb`; returns the pages of docs/ by file name."""
    # protoc finds the plugins of mypy-protobuf on PATH: they are installed beside this interpreter.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    python = target / "python"
    python.mkdir(parents=True)
    files = sorted(
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.proto")
        if path.relative_to(ROOT).parts[0] not in (*NOT_GENERATED, "gen")
    )
    includes = [f"-I{ROOT}", f"-I{Path(grpc_tools.__file__).parent / '_proto'}"]
    run("--python_out", python, includes, files)
    run("--mypy_out=quiet", python, includes, files)
    services = [name for name in files if name.endswith("_service.proto")]
    run("--grpc_python_out", python, includes, services)
    run("--mypy_grpc_out=quiet", python, includes, services)
    # Envoy turns what an error carries into JSON, so it must know those messages too.
    googleapis = Path(error_details_pb2.__file__).parents[2]
    errors = ["google/rpc/status.proto", "google/rpc/error_details.proto"]
    described_set = f"--include_imports --descriptor_set_out={target / 'descriptors.binpb'}"
    run(described_set, None, [*includes, f"-I{googleapis}"], [*files, *errors])
    with tempfile.NamedTemporaryFile() as described:
        run(f"--include_imports --include_source_info --descriptor_set_out={described.name}", None, includes, files)
        everything = descriptor_pb2.FileDescriptorSet.FromString(Path(described.name).read_bytes())
    return {"errors.md": error_reasons.render(everything), "access.md": access_page.render(everything)}


def run(options: str, target: Path | None, includes: list[str], files: list[str]) -> None:
    """Runs protoc; with a target, `options` is that of one generator."""
    if target is not None:
        options = f"{options}{':' if '=' in options else '='}{target}"
    if code := protoc.main(["", *includes, *options.split(), *files]):
        raise SystemExit(code)


def differences(fresh: Path, committed: Path) -> list[str]:
    """Names of files, relative, that are missing, extra or different."""

    def names(folder: Path) -> set[str]:
        paths = folder.rglob("*") if folder.exists() else ()
        return {str(path.relative_to(folder)) for path in paths if path.is_file() and path.suffix != ".pyc"}

    both = names(fresh) & names(committed)
    one_sided = names(fresh) ^ names(committed)
    changed = {name for name in both if not filecmp.cmp(fresh / name, committed / name, shallow=False)}
    return sorted(one_sided | changed)


if __name__ == "__main__":
    sys.exit(main())
