"""Tokens with which a caller reads its own writes: how far the index must be."""

from chassis.errors import invalid_field


def consistency_token(position: int) -> str:
    """What a caller holds to read its own write; opaque to it."""
    return f"ct1-{position:x}"


def consistency_position(token: str) -> int:
    """The position in a token. Raises InvalidArgument for anything that is not one."""
    version, _, digits = token.partition("-")
    if version == "ct1" and 0 < len(digits) <= 16 and all(digit in "0123456789abcdef" for digit in digits):
        return int(digits, 16)
    raise invalid_field("consistency_token", "is not one that a write returned")
