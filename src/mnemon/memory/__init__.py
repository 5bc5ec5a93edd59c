"""Memory: named sections of entries, an operation log, and the ranking of entries."""
