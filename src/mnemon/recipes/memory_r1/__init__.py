"""Memory-R1 (arXiv 2508.19828): how its manager and its answerer are trained, in the tiny world and on LoCoMo."""
