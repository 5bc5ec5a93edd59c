"""Tasks: one file per dataset or environment, from a row to a Task."""
