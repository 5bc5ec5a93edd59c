"""Recipes: agent, tasks, rewards, credit, loss and defaults; how one system is trained."""
