"""How many tokens of context a run may use, and what of them is kept free for the answer."""

from __future__ import annotations

from agent_svc.managers.progress import Progress

# When the model's window is not known.
DEFAULT_WINDOW_TOKENS = 32_768
# Of the window, what is kept free for the answer: a quarter of a small one, this much of a large one.
_ANSWER_TOKENS = 2_048


def window_tokens(progress: Progress) -> int:
    """Tokens of context that the run may use."""
    known = progress.model.capabilities.context_window or DEFAULT_WINDOW_TOKENS
    wanted = progress.agent.settings.context_window_tokens
    return int((known if wanted is None else min(known, wanted)) * progress.window_share)


def answer_tokens(window: int) -> int:
    """Tokens of the window that are kept free for the answer."""
    return min(_ANSWER_TOKENS, window // 4)
