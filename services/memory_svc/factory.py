"""Puts memory_svc together. The only file that knows every class."""

from collections.abc import Callable, Sequence
from typing import Any

from chassis.audit.stream import AuditStream
from chassis.audit.trail import AuditTrail
from chassis.channels import open_channel
from chassis.database import Database
from chassis.nats_connection import NatsConnection
from chassis.pagination import PageTokens
from chassis.purge import Purger
from chassis.server import Assembly
from chassis.trust import trust
from hearth.memory.internal.v1.context_service_pb2_grpc import add_ContextServiceServicer_to_server
from hearth.memory.internal.v1.recall_index_service_pb2_grpc import add_RecallIndexServiceServicer_to_server
from hearth.memory.internal.v1.usage_service_pb2_grpc import add_UsageServiceServicer_to_server
from hearth.memory.v1.archival_memory_service_pb2_grpc import add_ArchivalMemoryServiceServicer_to_server
from hearth.memory.v1.block_service_pb2_grpc import add_BlockServiceServicer_to_server
from hearth.memory.v1.index_service_pb2_grpc import add_IndexServiceServicer_to_server
from hearth.memory.v1.recall_memory_service_pb2_grpc import add_RecallMemoryServiceServicer_to_server
from hearth.memory.v1.transfer_service_pb2_grpc import add_TransferServiceServicer_to_server
from memory_svc.adapters.bm25 import Bm25Encoder
from memory_svc.adapters.embedder import CachedEmbedder, MiniLmModel
from memory_svc.adapters.qdrant_edge import QdrantEdgeIndex
from memory_svc.interfaces.vector_index import VectorIndex
from memory_svc.managers.block_manager import BlockManager
from memory_svc.managers.context_manager import ContextManager
from memory_svc.managers.hybrid_search import HybridSearch
from memory_svc.managers.import_manager import ImportManager
from memory_svc.managers.index_applier import IndexApplier
from memory_svc.managers.index_documents import IndexDocuments
from memory_svc.managers.index_manager import IndexManager
from memory_svc.managers.passage_manager import PassageManager
from memory_svc.managers.passage_room import PassageRoom
from memory_svc.managers.recall_manager import RecallManager
from memory_svc.managers.transfer_manager import TransferManager
from memory_svc.repositories import SqlAgentMemorySummaries, SqlCandidates, SqlUnitOfWork
from memory_svc.servicers.archival_servicer import ArchivalMemoryServicer
from memory_svc.servicers.block_servicer import BlockServicer
from memory_svc.servicers.context_servicer import ContextServicer
from memory_svc.servicers.index_servicer import IndexServicer
from memory_svc.servicers.recall_servicer import RecallIndexServicer, RecallMemoryServicer
from memory_svc.servicers.transfer_servicer import TransferServicer
from memory_svc.servicers.usage_servicer import UsageServicer
from memory_svc.settings import MemorySettings

# How many words a turn of a conversation has, and a window of such turns: BM25 scales lengths against it.
_USUAL_WORDS = 16
_USUAL_WINDOW_WORDS = 60
# What an endpoint is asked at once: a call costs it more than a text.
_ENDPOINT_BATCH = 32


async def build(settings: MemorySettings) -> Assembly:
    """Everything that serves, with the embedder loaded and the index open: SERVING means that memory can be used.

    Raises ValueError for settings that cannot be right, DomainError when another process holds the index.
    """
    users = open_channel(settings.user_svc_address)
    trusted = trust(users, settings)
    database = Database(
        settings.database_url.get_secret_value(),
        application_name="memory_svc",
        pool_size=settings.database_pool_size,
    )
    nats = NatsConnection(settings.nats_url.get_secret_value(), "memory_svc")
    work = SqlUnitOfWork(database)
    embedder = _embedder(settings)
    index = _index(settings, embedder)
    await embedder.start()
    await index.open()
    words, window_words = Bm25Encoder(_USUAL_WORDS), Bm25Encoder(_USUAL_WINDOW_WORDS)

    # Qdrant Edge is held by one process, and only that process writes memory.
    only_writer = not settings.qdrant_url
    documents = IndexDocuments(work, index, embedder, words, window_words)
    applier = IndexApplier(work, index, documents, only_writer=only_writer)
    searcher = HybridSearch(work, SqlCandidates(database), index, embedder, words, applier)
    recall = RecallManager(work, searcher, applier)
    pages = PageTokens(settings.derived_key("page-tokens"))
    blocks = BlockServicer(BlockManager(work), pages)
    room = PassageRoom(trusted.limits)
    passages = PassageManager(work, searcher, applier, room)
    archival = ArchivalMemoryServicer(passages, ImportManager(work, applier, room), pages)
    transfers = TransferServicer(TransferManager(work, applier, room))
    maintenance = IndexServicer(IndexManager(work, index, embedder, applier))
    purger = Purger(trusted.purges, database, others={"vectors": index.delete_organization})
    contexts = ContextServicer(ContextManager(work, SqlAgentMemorySummaries(database), searcher))
    await nats.open()
    return Assembly(
        servicers=_registrations(blocks, archival, recall, contexts, maintenance, transfers, UsageServicer(passages)),
        verifier=trusted.verifier,
        audit=AuditTrail(database, AuditStream(nats, "memory_svc")),
        background=[trusted.revocations, trusted.limits, applier, purger],
        closers=[database.close, nats.close, users.close, embedder.stop, index.close],
        limits=trusted.limits,
    )


def _embedder(settings: MemorySettings) -> CachedEmbedder:
    if not settings.embedding_url:
        return CachedEmbedder(
            MiniLmModel,
            model=MiniLmModel.name,
            dimensions=MiniLmModel.dimensions,
            cache_size=settings.embedding_cache_size,
        )
    from memory_svc.adapters.embedder.endpoint import EndpointModel

    model, dimensions = settings.endpoint()
    key = settings.embedding_api_key.get_secret_value()
    return CachedEmbedder(
        lambda: EndpointModel(settings.embedding_url, model=model, dimensions=dimensions, api_key=key),
        model=model,
        dimensions=dimensions,
        cache_size=settings.embedding_cache_size,
        batch=_ENDPOINT_BATCH,
    )


def _index(settings: MemorySettings, embedder: CachedEmbedder) -> VectorIndex:
    if not settings.qdrant_url:
        return QdrantEdgeIndex(settings.vector_folder(), model=embedder.model, dimensions=embedder.dimensions)
    # Takes a second to import.
    from memory_svc.adapters.qdrant_server import QdrantServerIndex, open_client

    client = open_client(settings.qdrant_url, settings.qdrant_api_key.get_secret_value())
    return QdrantServerIndex(client, model=embedder.model, dimensions=embedder.dimensions)


def _registrations(
    blocks: BlockServicer,
    archival: ArchivalMemoryServicer,
    recall: RecallManager,
    contexts: ContextServicer,
    maintenance: IndexServicer,
    transfers: TransferServicer,
    usage: UsageServicer,
) -> Sequence[tuple[Callable[[Any, Any], None], Any, str]]:
    public, internal = "hearth.memory.v1", "hearth.memory.internal.v1"
    search, index = RecallMemoryServicer(recall), RecallIndexServicer(recall)
    return [
        (add_BlockServiceServicer_to_server, blocks, f"{public}.BlockService"),
        (add_ArchivalMemoryServiceServicer_to_server, archival, f"{public}.ArchivalMemoryService"),
        (add_RecallMemoryServiceServicer_to_server, search, f"{public}.RecallMemoryService"),
        (add_TransferServiceServicer_to_server, transfers, f"{public}.TransferService"),
        (add_IndexServiceServicer_to_server, maintenance, f"{public}.IndexService"),
        (add_RecallIndexServiceServicer_to_server, index, f"{internal}.RecallIndexService"),
        (add_ContextServiceServicer_to_server, contexts, f"{internal}.ContextService"),
        (add_UsageServiceServicer_to_server, usage, f"{internal}.UsageService"),
    ]
