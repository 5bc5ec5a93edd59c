"""Credit and losses as pure functions, each beside its equation."""
