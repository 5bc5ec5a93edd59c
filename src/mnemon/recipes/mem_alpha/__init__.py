"""Mem-α (arXiv 2509.25911): a policy that builds core, episodic and semantic memory from a stream of chunks."""
