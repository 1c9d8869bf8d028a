"""Values and pure rules of tool_svc; imports nothing of ours."""
