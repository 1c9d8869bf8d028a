"""tool_svc: tools and their versions, schemas from source, sandboxed execution."""
