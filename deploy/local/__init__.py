"""Runs a whole Hearth on one machine, all of it real, without a container engine. `make up` is its face; see README.md.

Programs use `Stack`, which is synchronous and starts the same runner:

    with Stack(env={"HEARTH_OPENAI_BASE_URL": fake.url, "HEARTH_LOCAL_MODEL": "0"}) as stack:
        stack.url, stack.target, stack.api_key      # through Envoy
        stack.address("agent_svc")                  # and each process by itself
        stack.kill("agent_svc", signal.SIGKILL)
        stack.wait_ready("agent_svc")               # the runner has started it again
        stack.restart("memory_svc")                 # in good order

    stack = Stack(home=folder)                      # a home that is kept: start() after stop() is a restart of everything
"""

from deploy.local.stack import Stack, StackError

__all__ = ["Stack", "StackError"]
