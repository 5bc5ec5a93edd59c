.DEFAULT_GOAL := help
.PHONY: help setup demo test check agent clean

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: ## make .venv (nothing to do: returns at once)
	@scripts/setup

demo: setup ## watch a tiny agent learn what to remember, on a CPU
	@.venv/bin/mnemon demo

test: setup ## format, lint, types, import contracts, then every test
	@scripts/check
	@scripts/test

check: setup ## only what needs no test run
	@scripts/check

agent: setup ## rebuild the trained tiny agent that ships with the package (about ten minutes)
	@.venv/bin/python -m mnemon.recipes.memory_r1.ship

clean: ## remove caches and the environment; runs/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build
	find src tests scripts examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
