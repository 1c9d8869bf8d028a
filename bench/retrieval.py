"""How well memory finds: LoCoMo's development half through SearchMessages, identifiers, and filters.

Each conversation of the data is one agent's recall memory, each turn one message; searches are made over gRPC with default
settings. Beside it, on the same data, what simpler rankings reach (bench/ranking_baselines.py). Recall@k is the share of a
question's evidence among the first k, averaged over the questions; the headline leaves the adversarial ones out.

    python -m bench.retrieval [--data FOLDER] [--json FILE]

The data may not be distributed with the project: without the folder (default: shared/data/locomo_dev beside it) the benchmark
says so and ends with status 3.
"""

import argparse
import asyncio
import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import uvloop
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table

from bench.figures import Figures, percentile
from bench.memory_stack import MemoryStack, memory_stack
from bench.ranking_baselines import BASELINES, ExactConversation, Turn
from chassis import ids
from hearth.memory.internal.v1 import recall_index_service_pb2 as index_pb
from hearth.memory.v1 import archival_memory_service_pb2 as archival_pb
from hearth.memory.v1 import recall_memory_service_pb2 as pb
from hearth.memory.v1 import search_pb2
from memory_svc.adapters.embedder import MiniLmModel
from tests.integration.memory_svc.service import Organization, new_id

DATA = Path(__file__).parents[2] / "shared" / "data" / "locomo_dev"
NO_DATA = 3
TARGETS = {
    "recall_at_5": "bar 68",
    "recall_at_10": "bar 77",
    "ndcg_at_10": "bar 0.60",
    "identifier_hit_at_1": "bar 1.0",
    "filtered_recall": "bar 0.99 of exact",
}
DEPTH = 20
IDENTIFIERS = 200
FILTERED_QUESTIONS = 150
# Vectors made in another batch differ in the third decimal: what is as near as the tenth but for this counts as found.
SAME_COSINE = 0.004


@dataclass
class Conversation:
    """One conversation of the data, and where it is in memory."""

    name: str
    turns: list[Turn] = field(default_factory=list[Turn])
    labels: list[str] = field(default_factory=list[str])
    times: list[datetime] = field(default_factory=list[datetime])
    agent: str = field(default_factory=lambda: new_id("agent"))
    id: str = field(default_factory=lambda: new_id("conv"))

    def role(self, at: int) -> str:
        """The first who speaks is the user."""
        return "user" if self.turns[at].speaker == self.turns[0].speaker else "assistant"


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the labels of the turns that answer it."""

    conversation: str
    text: str
    category: str
    evidence: frozenset[str]


def load(folder: Path) -> tuple[dict[str, Conversation], list[Question]]:
    """Reads the data."""
    conversations: dict[str, Conversation] = {}
    for line in (folder / "turns.jsonl").read_text().splitlines():
        row = json.loads(line)
        one = conversations.setdefault(row["conversation"], Conversation(row["conversation"]))
        one.turns.append(Turn(row["speaker"], row["text"]))
        one.labels.append(row["turn"])
        one.times.append(datetime.fromisoformat(row["time"]))
    questions: list[Question] = []
    for line in (folder / "questions.jsonl").read_text().splitlines():
        row = json.loads(line)
        known = frozenset(row["evidence"]) & set(conversations[row["conversation"]].labels)
        if known:
            questions.append(Question(row["conversation"], row["question"], row["category"], known))
    return conversations, questions


async def remember(organization: Organization, conversation: Conversation) -> None:
    """Indexes a conversation and waits until all of it can be found."""
    messages: list[pb.RecallMessage] = []
    for at, turn in enumerate(conversation.turns):
        moment = Timestamp()
        moment.FromDatetime(conversation.times[at])
        messages.append(
            pb.RecallMessage(
                message_id=ids.encode("msg", ids.new()),
                agent_id=conversation.agent,
                conversation_id=conversation.id,
                seq=at + 1,
                role=conversation.role(at),
                speaker=turn.speaker,
                text=turn.text,
                create_time=moment,
            )
        )
    token = ""
    for start in range(0, len(messages), 200):
        request = index_pb.IndexMessagesRequest(messages=messages[start : start + 200])
        token = (await organization.service.index.IndexMessages(request)).consistency_token
    await settled(organization, conversation.agent, token)


async def settled(organization: Organization, agent: str, token: str) -> None:
    """Waits until the index has everything up to a token: then a search with it does not wait."""
    while True:
        begun = time.perf_counter()
        request = pb.SearchMessagesRequest(query="anything", agent_id=agent, consistency_token=token)
        await organization.viewer.recall.SearchMessages(request)
        if time.perf_counter() - begun < 1.0:
            return


@dataclass
class Scores:
    """Measures over questions."""

    recall: dict[int, list[float]] = field(default_factory=lambda: {5: [], 10: [], 20: []})
    ndcg: list[float] = field(default_factory=list[float])
    reciprocal: list[float] = field(default_factory=list[float])

    def add(self, evidence: frozenset[str], found: Sequence[str]) -> None:
        """Counts one question."""
        for k, values in self.recall.items():
            values.append(len(evidence.intersection(found[:k])) / len(evidence))
        gain = sum(1 / math.log2(place + 2) for place, label in enumerate(found[:10]) if label in evidence)
        ideal = sum(1 / math.log2(place + 2) for place in range(min(10, len(evidence))))
        self.ndcg.append(gain / ideal)
        self.reciprocal.append(next((1 / place for place, x in enumerate(found, start=1) if x in evidence), 0.0))

    def row(self) -> dict[str, float]:
        """The averages: recall in percent, the rest 0…1."""
        recalls = {f"recall_at_{k}": 100 * sum(values) / len(values) for k, values in self.recall.items()}
        count = len(self.ndcg)
        return recalls | {"ndcg_at_10": sum(self.ndcg) / count, "mrr": sum(self.reciprocal) / count}


async def locomo(
    organization: Organization,
    conversations: dict[str, Conversation],
    exact: dict[str, ExactConversation],
    questions: Sequence[Question],
    figures: Figures,
) -> dict[str, dict[str, float]]:
    """Asks every question; returns a row for each ranking."""
    ours, adversarial = Scores(), Scores()
    others = {name: Scores() for name in BASELINES}
    by_category: dict[str, Scores] = defaultdict(Scores)
    took: list[float] = []
    for question in questions:
        conversation = conversations[question.conversation]
        begun = time.perf_counter()
        request = pb.SearchMessagesRequest(query=question.text, agent_id=conversation.agent, top_k=DEPTH)
        answer = await organization.viewer.recall.SearchMessages(request)
        took.append((time.perf_counter() - begun) * 1000)
        if answer.degraded:
            raise RuntimeError("the index did not answer: there is nothing to measure")
        found = [conversation.labels[hit.message.seq - 1] for hit in answer.hits]
        by_category[question.category].add(question.evidence, found)
        if question.category == "adversarial":
            adversarial.add(question.evidence, found)
            continue
        ours.add(question.evidence, found)
        lists = exact[question.conversation].lists(question.text)
        for name, ranking in BASELINES.items():
            others[name].add(question.evidence, [conversation.labels[at] for at in ranking(lists)[:DEPTH]])
    figures.raw["search_ms"] = {"p50": percentile(took, 0.5), "p95": percentile(took, 0.95)}
    figures.raw["categories"] = {name: scores.row() for name, scores in by_category.items()}
    rows = {name: scores.row() for name, scores in others.items()}
    return rows | {"Hearth, SearchMessages": ours.row(), "Hearth, adversarial questions": adversarial.row()}


async def identifiers(organization: Organization) -> float:
    """The share of identifiers whose passage is the first hit, among as many that differ from it in one sign."""
    codes = [f"ERR-{48_000 + number}-C{number % 90 + 10}" for number in range(IDENTIFIERS)]
    texts = [f"After the update the service on host {place} reported {code} twice." for place, code in enumerate(codes)]
    request = archival_pb.InsertPassagesRequest(
        agent_id=organization.agent, passages=[archival_pb.PassageSpec(text=text) for text in texts]
    )
    token = (await organization.member.archival.InsertPassages(request)).consistency_token
    hits = 0
    for code, text in zip(codes, texts, strict=True):
        query = archival_pb.SearchPassagesRequest(
            query=f"What happened with {code}?", agent_id=organization.agent, consistency_token=token
        )
        found = (await organization.viewer.archival.SearchPassages(query)).hits
        hits += found[0].passage.text == text
    return hits / len(codes)


async def filtered(
    organization: Organization,
    conversations: dict[str, Conversation],
    exact: dict[str, ExactConversation],
    questions: Sequence[Question],
) -> float:
    """Of the ten nearest by meaning within a role and half of the time, the share that a filtered search returns."""
    shares: list[float] = []
    for question in questions[:: max(1, len(questions) // FILTERED_QUESTIONS)]:
        conversation = conversations[question.conversation]
        middle = conversation.times[len(conversation.times) // 2]
        request = pb.SearchMessagesRequest(
            query=question.text,
            agent_id=conversation.agent,
            mode=search_pb2.SEARCH_MODE_DENSE,
            roles=["user"],
            time_range=search_pb2.TimeRange(to=middle.isoformat()),
        )
        hits = (await organization.viewer.recall.SearchMessages(request)).hits
        cosines = exact[question.conversation].cosines(question.text)
        allowed = [
            at
            for at in range(len(conversation.turns))
            if conversation.role(at) == "user" and conversation.times[at] <= middle
        ]
        tenth = sorted((float(cosines[at]) for at in allowed), reverse=True)[:10][-1]
        good = [
            hit.message.seq - 1
            for hit in hits
            if hit.message.seq - 1 in allowed and cosines[hit.message.seq - 1] >= tenth - SAME_COSINE
        ]
        shares.append(len(good) / min(10, len(allowed)))
    return sum(shares) / len(shares)


async def measure(stack: MemoryStack, folder: Path, figures: Figures) -> dict[str, dict[str, float]]:
    """Fills memory, asks everything, and records the figures."""
    conversations, questions = load(folder)
    model = MiniLmModel()
    async with stack.channel() as channel:
        organization = stack.organization(channel)
        begun = time.perf_counter()
        for conversation in conversations.values():
            await remember(organization, conversation)
        print(f"indexed in {time.perf_counter() - begun:.0f} s", flush=True)
        exact = {name: ExactConversation(model, one.turns) for name, one in conversations.items()}
        rows = await locomo(organization, conversations, exact, questions, figures)
        for name, value in rows["Hearth, SearchMessages"].items():
            figures.add(name, value, "%" if name.startswith("recall") else "0…1")
        figures.add("identifier_hit_at_1", await identifiers(stack.organization(channel)), "0…1")
        figures.add("filtered_recall", await filtered(organization, conversations, exact, questions), "0…1")
    figures.raw["rankings"] = rows
    return rows


def show(rows: dict[str, dict[str, float]]) -> None:
    """Prints the rankings side by side."""
    table = Table(title="LoCoMo, development half, by message")
    table.add_column("ranking")
    columns = ("recall_at_5", "recall_at_10", "recall_at_20", "ndcg_at_10", "mrr")
    for column in columns:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        table.add_row(name, *(f"{row[c]:.1f}" if c.startswith("recall") else f"{row[c]:.3f}" for c in columns))
    Console(width=120).print(table)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with turns.jsonl and questions.jsonl")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if not (options.data / "questions.jsonl").is_file():
        print(f"there is no data in {options.data}: give the folder of LoCoMo's development half with --data")
        sys.exit(NO_DATA)
    figures = Figures("Retrieval")
    with memory_stack() as stack, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rows = runner.run(measure(stack, options.data, figures))
    show(rows)
    figures.show(TARGETS)
    if options.json:
        figures.write(options.json)


if __name__ == "__main__":
    main()
