"""`hearth run`."""

from typing import TYPE_CHECKING

import click

from hearth_client.cli._output import (
    first,
    for_terminal,
    label,
    note,
    print_fields,
    print_heading,
    print_json,
    print_json_line,
    print_table,
    shorten,
    to_dict,
    when,
)
from hearth_client.cli._session import (
    Failure,
    Session,
    busy_policy,
    examples,
    json_option,
    limit_option,
    pass_session,
    read_text,
    when_busy_option,
)

if TYPE_CHECKING:
    from hearth.agent.v1.run_pb2 import Run, RunContext

_STATES = ("queued", "running", "waiting", "succeeded", "failed", "cancelled")


@click.group()
def run() -> None:
    """Start, list, show, watch and cancel runs. A run is one message worked off by an agent."""


@run.command(
    epilog=examples(
        'hearth run start demo "Sum up the week."', "hearth run start demo --when-busy refuse - < order.txt"
    )
)
@click.argument("agent_name", metavar="AGENT")
@click.argument("message")
@click.option(
    "--conversation", "conversation_id", metavar="ID", default="", help="In this one; default: the agent's own."
)
@when_busy_option
@json_option
@pass_session
def start(session: Session, agent_name: str, message: str, conversation_id: str, when_busy: str, as_json: bool) -> None:
    """Say MESSAGE to AGENT and return as soon as it is accepted, with the run's id: the run will end, whatever dies.

    - reads the message from standard input. Follow the run with `hearth run watch`.
    """
    said = read_text(message) if message == "-" else message
    if not said.strip():
        raise click.UsageError("the message is empty")
    conversation_id = conversation_id or session.agent(agent_name).default_conversation_id
    started = session.client.runs.start(said, conversation_id=conversation_id, busy_policy=busy_policy(when_busy))
    if as_json:
        print_json(started)
    else:
        click.echo(started.id)


@run.command("list", epilog=examples("hearth run list --agent demo", "hearth run list --state failed --json"))
@click.option("--agent", "agent_name", metavar="AGENT", default="", help="Only this agent's, by name or id.")
@click.option("--conversation", "conversation_id", metavar="ID", default="", help="Only of this conversation.")
@click.option("--state", "states", type=click.Choice(_STATES), multiple=True, help="Only in this state. Repeatable.")
@limit_option
@json_option
@pass_session
def list_runs(
    session: Session, agent_name: str, conversation_id: str, states: tuple[str, ...], limit: int, as_json: bool
) -> None:
    """List runs, newest first."""
    agent_id = session.agent(agent_name).id if agent_name else ""
    from hearth.agent.v1.run_pb2 import RunState

    wanted = [RunState.Value(f"RUN_STATE_{state.upper()}") for state in dict.fromkeys(states)]
    runs = session.client.runs.list(agent_id=agent_id, conversation_id=conversation_id, states=wanted)
    found = first(runs, limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "state", "steps", "tokens in/out", "created", "input"),
        (
            (r.id, label(r, "state"), r.steps, _tokens(r), when(r, "create_time"), shorten(r.input_preview, 40))
            for r in found
        ),
    )


@run.command(epilog=examples("hearth run show run_…", "hearth run show run_… --context --json"))
@click.argument("run_id", metavar="RUN")
@click.option(
    "--context",
    is_flag=True,
    help="Also what the model saw at each step: tokens by section, system text, recalled, messages.",
)
@json_option
@pass_session
def show(session: Session, run_id: str, context: bool, as_json: bool) -> None:
    """Show the run with the id RUN."""
    found = session.client.runs.get(run_id)
    contexts = session.client.runs.context(run_id) if context else ()
    if as_json:
        with_context = {"run": to_dict(found), "contexts": [to_dict(step) for step in contexts]}
        print_json(with_context if context else found)
        return
    _print_run(found)
    for step in contexts:
        _print_context(step)
    if context and not contexts:
        note("the model was not called")


@run.command(epilog=examples("hearth run watch run_…", "hearth run watch run_… --json"))
@click.argument("run_id", metavar="RUN")
@click.option("--after", "after_seq", type=click.IntRange(min=0), default=0, help="Only events after this number.")
@click.option("--json", "as_json", is_flag=True, help="Print frames as they come, one JSON object a line.")
@pass_session
def watch(session: Session, run_id: str, after_seq: int, as_json: bool) -> None:
    """Follow the run with the id RUN, from its start, until it ends.

    Ctrl-C leaves; the run goes on. Exits with 1 if the run failed.
    """
    from hearth_client.cli._printer import RunPrinter

    frames = session.client.runs.watch(run_id, after_seq=after_seq)
    printer = RunPrinter(with_input=True)
    for frame in frames:
        if as_json:
            print_json_line(frame)
        else:
            printer.show(frame)
    outcome = printer.outcome
    if outcome is not None and outcome.state == "failed":
        raise Failure(f"the run failed: {outcome.message} ({outcome.reason})")
    if outcome is not None:
        note(f"the run {outcome.state}" if outcome.state == "succeeded" else f"the run was {outcome.state}")


@run.command(epilog=examples("hearth run cancel run_…"))
@click.argument("run_id", metavar="RUN")
@pass_session
def cancel(session: Session, run_id: str) -> None:
    """Stop the run with the id RUN: no new model call or tool call starts."""
    cancelled = session.client.runs.cancel(run_id)
    note(f"{cancelled.id} is {label(cancelled, 'state')}")


def _tokens(found: "Run") -> str:
    return f"{found.usage.input_tokens}/{found.usage.output_tokens}"


def _print_run(found: "Run") -> None:
    print_fields(
        {
            "id": found.id,
            "state": label(found, "state"),
            "stopped by": label(found, "stop_reason"),
            "error": f"{found.error.message} ({found.error.reason})" if found.HasField("error") else "",
            "agent": found.agent_id,
            "conversation": found.conversation_id,
            "input": found.input_preview,
            "steps": found.steps,
            "tokens in/out": _tokens(found),
            "created": when(found, "create_time"),
            "started": when(found, "start_time"),
            "ended": when(found, "end_time"),
        }
    )


def _print_context(step: "RunContext") -> None:
    click.echo()
    print_heading(f"step {step.step} · {step.model} · about {step.estimated_tokens} tokens")
    print_heading("— tokens")
    print_table(("", "TOKENS"), _token_rows(step))
    print_heading("— system")
    click.echo(for_terminal(step.system_text))
    print_heading("— of it, recalled")
    click.echo(for_terminal(step.recalled_text) or "(nothing)")
    print_heading("— messages")
    for message in step.messages:
        click.echo(f"{click.style(message.role + ':', bold=True)} {for_terminal(message.text)}")
    if step.tool_names:
        print_heading("— tools")
        click.echo(", ".join(step.tool_names))


def _token_rows(step: "RunContext") -> list[tuple[str, str]]:
    """Hearth's estimate by section, then what the provider counted."""
    sections = step.tokens
    rows = [
        ("instructions", sections.instructions),
        ("core memory", sections.core_memory),
        ("recalled, and the time", sections.recalled),
        ("tools", sections.tools),
        ("summary", sections.summary),
        ("history", sections.history),
        ("input", sections.input),
    ]
    shown = [(name, f"~{count}") for name, count in rows] if step.HasField("tokens") else []
    shown.append(("all, estimated", f"~{step.estimated_tokens}"))
    if step.HasField("tokens"):
        shown.append(("window", f"{sections.window}, {sections.answer} of it for the answer"))
    if step.usage.input_tokens:
        read, cached = step.usage.input_tokens, step.usage.cached_input_tokens
        shown.append(("the provider: read", f"{read}, {cached} of it cached" if cached else f"{read}"))
        shown.append(("the provider: written", f"{step.usage.output_tokens}"))
    else:
        shown.append(("the provider", "did not say"))
    return shown
