"""The memory service: core blocks with history, archival passages, and search over both and over past messages."""
