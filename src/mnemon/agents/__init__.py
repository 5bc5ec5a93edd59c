"""Agents: the prompts and tools of one system each, torch-free."""
