"""`hearth memory`: moving memory in and out, the history of blocks, and looking after the index."""

import contextlib
import sys
from collections.abc import Generator
from pathlib import Path
from typing import IO

import click

from hearth_client.cli._memory_files import FORMATS, open_file
from hearth_client.cli._output import first, note, print_fields, print_json, print_table, shorten, to_json, when
from hearth_client.cli._session import Failure, Session, examples, is_id, json_option, limit_option, pass_session


@click.command(
    "export",
    epilog=examples("hearth memory export --agent demo demo.jsonl", "hearth memory export - | gzip > memory.jsonl.gz"),
)
@click.argument("file")
@click.option("--agent", "agent_name", metavar="AGENT", default="", help="Whose memory; default: the organization's.")
@pass_session
def export_memory(session: Session, file: str, agent_name: str) -> None:
    """Write blocks and passages with their history to FILE, one JSON record a line. - is standard output."""
    from google.protobuf.json_format import MessageToDict

    agent_id = session.agent(agent_name).id if agent_name else ""
    count = 0
    with _writing(file) as out:
        for record in session.client.memory.export(agent_id):
            out.write(to_json(MessageToDict(record, preserving_proto_field_name=True)) + "\n")
            count += 1
    note(f"{count} blocks and passages")


@click.command(
    "import",
    epilog=examples(
        "hearth memory import --agent demo demo.jsonl",
        "hearth memory import --agent demo --format mem0 memories.json",
    ),
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--agent", "agent_name", metavar="AGENT", default="", help="Whose memory it becomes.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="auto", show_default=True, help="What FILE is.")
@json_option
@pass_session
def import_memory(session: Session, file: Path, agent_name: str, form: str, as_json: bool) -> None:
    """Store what FILE holds: an export of Hearth's, an export of mem0's, or lines like {"text": "…", "tags": [], "metadata": {}}.

    Run it again after a failure: it goes on where it broke off, and nothing is stored twice. Only an export of Hearth's can do without
    --agent: it then goes to the agents that it names.
    """
    source = open_file(file, form)
    if not agent_name and source.format != "hearth":
        raise Failure("say whose memory it becomes: --agent")
    agent_id = session.agent(agent_name).id if agent_name else ""
    if source.format == "hearth":
        stored = known = 0
        for answer in session.client.memory.import_records(source.records(), agent_id=agent_id):
            stored, known = answer.stored_count, answer.skipped_count
    else:
        stored = known = 0
        progress = session.client.memory.import_passages(
            agent_id, source.passages(), import_id=source.import_id(agent_id)
        )
        for answer in progress:
            stored, known = answer.stored_count - answer.duplicate_count, answer.duplicate_count
    if as_json:
        print_json({"stored": stored, "known": known})
    else:
        print_fields({"stored": stored, "known before": str(known)})


@click.command(epilog=examples("hearth memory history --agent demo human"))
@click.argument("block")
@click.option("--agent", "agent_name", metavar="AGENT", default="", help="Whose block, where BLOCK is a label.")
@limit_option
@json_option
@pass_session
def history(session: Session, block: str, agent_name: str, limit: int, as_json: bool) -> None:
    """Print the history of BLOCK (a label or an id), newest first: who changed what, and why."""
    versions = first(session.client.blocks.versions(_block_id(session, block, agent_name)), limit)
    if as_json:
        print_json(versions)
        return
    rows = [
        (version.version, when(version, "create_time"), version.author, version.reason, shorten(version.diff, 200))
        for version in versions
    ]
    print_table(("version", "when", "author", "why", "change"), rows)


@click.command(epilog=examples("hearth memory restore --agent demo human 3"))
@click.argument("block")
@click.argument("version", type=click.IntRange(min=1))
@click.option("--agent", "agent_name", metavar="AGENT", default="", help="Whose block, where BLOCK is a label.")
@click.option("--reason", default="", help="Why; kept in the history.")
@json_option
@pass_session
def restore(session: Session, block: str, version: int, agent_name: str, reason: str, as_json: bool) -> None:
    """Give BLOCK (a label or an id) the value that it had in VERSION. That is a new version: nothing is lost."""
    block_id = _block_id(session, block, agent_name)
    etag = session.client.blocks.get(block_id).etag
    restored = session.client.blocks.restore(block_id, version, etag=etag, reason=reason)
    if as_json:
        print_json(restored)
    else:
        note(f"{restored.label} is version {restored.version} now")


@click.command(epilog=examples("hearth memory status"))
@json_option
@pass_session
def status(session: Session, as_json: bool) -> None:
    """Print how far the index is behind what was written."""
    found = session.client.memory.index_status()
    if as_json:
        print_json(found)
        return
    print_fields(
        {
            "waiting": f"{found.waiting_count}, the oldest for {found.lag_seconds:.1f} s"
            if found.waiting_count
            else "0",
            "embeddings": f"{found.model}, {found.dimensions} dimensions",
            "index": "complete" if found.filled else "being filled: searches are answered by words alone",
        }
    )


@click.command(epilog=examples("hearth memory reconcile --dry-run"))
@click.option("--dry-run", is_flag=True, help="Count only.")
@json_option
@pass_session
def reconcile(session: Session, dry_run: bool, as_json: bool) -> None:
    """Compare memory with its index, in both directions, and repair the index. For administrators."""
    # The last report is the result.
    found = list(session.client.memory.reconcile(dry_run=dry_run))[-1]
    if as_json:
        print_json(found)
        return
    differences = found.orphaned_count + found.stale_count + found.missing_count
    print_fields(
        {
            "compared": f"{found.item_count} passages and messages, {found.point_count} index entries",
            "left over": str(found.orphaned_count),
            "outdated": str(found.stale_count),
            "missing": str(found.missing_count),
            "result": f"{differences} differences" + ("" if dry_run or not differences else ", repaired"),
        }
    )


@click.command(epilog=examples("hearth memory reindex"))
@json_option
@pass_session
def reindex(session: Session, as_json: bool) -> None:
    """Make all index entries of the organization anew, in the background. Searches keep working. For administrators."""
    done = session.client.memory.reindex()
    if as_json:
        print_json(done)
    else:
        note(f"{done.queued_count} passages and messages queued: `hearth memory status` says how far it is")


def _block_id(session: Session, block: str, agent_name: str) -> str:
    if is_id("block", block):
        return block
    if not agent_name:
        raise Failure(f"whose block {block!r}? --agent says it", "`hearth memory blocks` shows the ids.")
    agent_id = session.agent(agent_name).id
    found = first(session.client.blocks.list(agent_id=agent_id, label=block), 1)
    if not found:
        raise Failure(f"the agent has no block {block!r}", "`hearth memory blocks --agent …` shows them.")
    return found[0].id


@contextlib.contextmanager
def _writing(file: str) -> Generator[IO[str]]:
    if file == "-":
        yield sys.stdout
        return
    try:
        with Path(file).open("w", encoding="utf-8") as out:
            yield out
    except OSError as error:
        raise Failure(f"cannot write {file}: {error}") from None


COMMANDS = (export_memory, import_memory, history, restore, status, reconcile, reindex)
