"""Agents, conversations, messages, runs and their event log, the agent loop, model providers, workflows, workspace files."""
