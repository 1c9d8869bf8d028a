"""The sandbox: a fork server hands out confined processes, one per tool call.

Two halves share this folder and nothing else. `pool`, `workers`, `calls`, `fork_server` and `scratch` run in the service.
`zygote`, `worker`, `binding`, `network`, `substitutes`, `confinement`, `seccomp`, `syscalls`, `landlock` and `kernel` run in
the fork server and its children; they import only the standard library, because whatever the fork server imports, every tool
inherits. Nothing here is imported from elsewhere but tool_svc's domain and interfaces.
"""
