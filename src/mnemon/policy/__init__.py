"""Policies: anything that writes. Import the module you need; only local, tiny and embed need torch."""
