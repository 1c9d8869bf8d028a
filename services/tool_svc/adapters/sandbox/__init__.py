"""The sandbox: a fork server hands out confined processes, one per tool call.

Two halves share this folder and nothing else. `pool`, `calls`, `fork_server_client` and `scratch` run in the
service. `zygote`, `worker`, `confinement`, `seccomp`, `syscalls`, `landlock` and `kernel` run in the fork server and
its children; they import only the standard library, because whatever the fork server imports, every tool inherits.
"""
