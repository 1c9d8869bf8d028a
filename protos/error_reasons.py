"""Renders docs/errors.md from the ErrorReason enum's comments."""

from google.protobuf import descriptor_pb2

ENUM_FIELD = 5  # FileDescriptorProto.enum_type
VALUE_FIELD = 2  # EnumDescriptorProto.value
FILE = "hearth/type/v1/error_reason.proto"
PREFIX = "ERROR_REASON_"

HEADER = """# Error reasons

Generated from `protos/hearth/type/v1/error_reason.proto` by `make proto`. Every error carries exactly one
`google.rpc.ErrorInfo` with `domain: hearth.dev` and one of these as its `reason`.

| reason | code | meaning |
| --- | --- | --- |
"""


def render(descriptors: descriptor_pb2.FileDescriptorSet) -> str:
    """Returns the page as Markdown.

    `descriptors` must have been made with source information; each comment begins with the gRPC code, or with where else the
    reason occurs, and a full stop.
    """
    file = next(file for file in descriptors.file if file.name == FILE)
    comments = {tuple(location.path): location.leading_comments for location in file.source_code_info.location}
    rows: list[str] = []
    for index, value in enumerate(file.enum_type[0].value):
        if value.number == 0:
            continue
        comment = " ".join(comments[(ENUM_FIELD, 0, VALUE_FIELD, index)].split())
        code, _, meaning = comment.partition(". ")
        rows.append(f"| `{value.name.removeprefix(PREFIX)}` | {code} | {meaning} |\n")
    return HEADER + "".join(rows)
