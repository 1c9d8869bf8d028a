"""What a tool may write as a requirement, and the name of an environment that holds a set of them."""

import hashlib
import json
import re
import sys
import sysconfig
from collections.abc import Sequence

from packaging.requirements import InvalidRequirement, Requirement

from chassis.errors import invalid_field

_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def check(requirements: Sequence[str]) -> None:
    """Whether each is a name with an optional version, and hashes for all or for none. Raises InvalidArgument naming the place."""
    hashed = 0
    for place, text in enumerate(requirements):
        specifier, *options = text.split(" --", 1) if " --" in text else (text,)
        hashes = [f"--{option}" for option in options[0].split(" --")] if options else []
        field = f"tool.settings.requirements[{place}]"
        try:
            requirement = Requirement(specifier)
        except InvalidRequirement:
            raise invalid_field(field, "must be a name with an optional version, as in `humanize==4.9.0`") from None
        if requirement.url or not specifier.isprintable():
            raise invalid_field(field, "must name a package of the index, not an address")
        if any(not _HASH.fullmatch(one.strip()) for one in hashes):
            raise invalid_field(field, "may be followed by `--hash=sha256:…` only")
        hashed += bool(hashes)
    if hashed not in (0, len(requirements)):
        raise invalid_field("tool.settings.requirements", "must have hashes for all requirements or for none")


def have_hashes(requirements: Sequence[str]) -> bool:
    """Whether each names the files that are good."""
    return bool(requirements) and all("--hash=" in text for text in requirements)


def key_of(requirements: Sequence[str]) -> str:
    """The name of the environment of a set: the same set, the same Python, the same machine, the same name."""
    content = [sorted(set(requirements)), sys.version_info[:2], sysconfig.get_platform()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
