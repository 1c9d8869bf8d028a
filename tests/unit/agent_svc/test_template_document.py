"""Templates are read strictly, faults are named by line, and values never become structure."""

import pytest

from agent_svc.domain.template_document import TemplateFault, VariablesFault, read_template, substituted
from agent_svc.domain.yaml_tree import MAX_DEPTH
from agent_svc.interfaces.agent_specs import BadSpec
from agent_svc.managers.template_rendering import proven, rendered
from agent_svc.servicers.agent_specs import ProtobufAgentSpecs
from chassis.errors import InvalidArgument

DOCUMENT = """\
description: Answers customers.
variables:
  customer:
    description: Who it works for.
    required: true
  tone: {default: friendly}
  note:
agent:
  name: "support-{{ customer }}"
  instructions: "Be {{tone}} to {{ customer }}.{{note}}"
  tools: [lookup_order]
  blocks:
    - label: human
      value: "{{ customer }}"
  tags: [support, "{{ tone }}"]
  settings: {max_steps: 5, passive_recall: false}
  metadata: {for: "{{ customer }}"}
"""
SPECS = ProtobufAgentSpecs()


def test_values_stand_in_the_places_of_variables() -> None:
    _, draft = rendered(DOCUMENT, {"customer": "ACME"}, SPECS)
    assert (draft.name, draft.instructions, draft.tags) == (
        "support-ACME",
        "Be friendly to ACME.",
        ("support", "friendly"),
    )
    assert (draft.blocks[0].label, draft.blocks[0].value, draft.tools) == ("human", "ACME", ("lookup_order",))
    assert (draft.settings.max_steps, draft.settings.passive_recall, dict(draft.metadata)) == (
        5,
        False,
        {"for": "ACME"},
    )


def test_json_is_a_template_too() -> None:
    _, draft = rendered('{"agent": {"name": "n", "settings": {"temperature": 0.5}}}', {}, SPECS)
    assert (draft.name, draft.settings.temperature) == ("n", 0.5)


@pytest.mark.parametrize(
    "hostile", ['x"\n  evil: true', "{{ tone }}", "a: b\nc: [d", "*alias", "!!python/object:os.system"]
)
def test_a_value_changes_no_structure_and_is_not_read_again(hostile: str) -> None:
    values = substituted(read_template(DOCUMENT), {"customer": hostile})
    assert values["metadata"] == {"for": hostile}
    assert set(values) == {"name", "instructions", "tools", "blocks", "tags", "settings", "metadata"}


def test_missing_and_unknown_variables_are_named() -> None:
    with pytest.raises(VariablesFault) as fault:
        substituted(read_template(DOCUMENT), {"custommer": "ACME", "zoo": ""})
    assert (fault.value.missing, fault.value.unknown) == (("customer",), ("custommer", "zoo"))
    with pytest.raises(InvalidArgument) as refused:
        rendered(DOCUMENT, {"zoo": ""}, SPECS)
    assert refused.value.reason == "TEMPLATE_VARIABLES_INVALID"
    assert refused.value.metadata == {"missing": "customer", "unknown": "zoo"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("[]", 1),
        ("description: x\n", 1),
        ("agent: {}\nextra: 1\n", 2),
        ("agent:\n  name: a\n  name: b\n", 3),
        ("agent:\n  name: '{{ who }}'\n", 2),
        ("variables: {1a: }\nagent: {}\n", 1),
        ("variables:\n  a:\n    required: perhaps\nagent: {}\n", 3),
        ("agent: {}\nvariables:\n  a: {defualt: x}\n", 3),
        ("agent: {name: [a\n", 2),
        ("agent: &a {name: x}\nvariables: *a\n", 2),
        ("agent:\n  name: !!python/object/apply:os.system ['true']\n", 2),
        ("agent:\n  ? [a, b]\n  : c\n", 2),
        ("agent:\n  name: \x07\n", 2),
        ("agent: {}\n---\nagent: {}\n", 2),
        (f"agent: {'[' * (MAX_DEPTH + 1)}", 1),
        ("agent: " + "[" * 200_000, 1),
        (f"agent:\n  settings:\n    max_steps: {'9' * 5000}\n", 3),
    ],
)
def test_what_is_no_template_is_refused_by_line(text: str, line: int) -> None:
    with pytest.raises(TemplateFault) as fault:
        read_template(text)
    assert fault.value.line == line


def test_a_bomb_of_aliases_is_refused_before_it_is_built() -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    with pytest.raises(TemplateFault, match="aliases"):
        read_template(f"a0: &a0 x\n{levels}agent: {{}}\n")


@pytest.mark.parametrize(
    ("text", "line", "path"),
    [
        ("agent:\n  name: 5\n", 2, "name"),
        ("agent:\n  name: a\n  nmae: b\n", 3, "nmae"),
        ("agent:\n  settings:\n    max_steps: many\n", 3, "settings.max_steps"),
        ("agent:\n  settings:\n    max_steps: 0\n", 3, "settings.max_steps"),
        ("agent:\n  settings: [1]\n", 2, "settings"),
        ("agent:\n  blocks:\n    - label: a\n    - lable: b\n", 4, "blocks[1].lable"),
        ("agent:\n  blocks:\n    - label: Not Good\n", 3, "blocks[0].label"),
        ("agent:\n  tags:\n    - a\n    -\n", 4, "tags[1]"),
        ("agent:\n  metadata:\n    k: 1\n", 3, "metadata.k"),
        ("agent:\n  block_ids: [block_1]\n", 2, "block_ids"),
        ("agent:\n  request_id: x\n", 2, "request_id"),
        ('agent:\n  instructions: "a\\0b"\n', 2, "instructions"),
    ],
)
def test_what_is_no_agent_is_refused_by_line(text: str, line: int, path: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        proven(text, SPECS)
    assert (refused.value.reason, refused.value.metadata["line"]) == ("TEMPLATE_INVALID", str(line))
    assert path in refused.value.message


def test_what_a_variable_decides_is_checked_when_it_has_a_value() -> None:
    text = "variables: {zeal: {required: true}}\nagent:\n  name: a\n  settings: {reasoning_effort: '{{ zeal }}'}\n"
    proven(text, SPECS)
    assert rendered(text, {"zeal": "low"}, SPECS)[1].settings.reasoning_effort == "low"
    with pytest.raises(InvalidArgument) as refused:
        rendered(text, {"zeal": "lots"}, SPECS)
    assert refused.value.metadata["line"] == "4"


def test_values_must_describe_an_agent() -> None:
    with pytest.raises(BadSpec):
        SPECS.decode({"template": "another"})
