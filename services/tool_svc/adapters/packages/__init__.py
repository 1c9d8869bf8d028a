"""Python packages for tools: installed once per set of requirements, by a confined installer, read by confined workers."""
