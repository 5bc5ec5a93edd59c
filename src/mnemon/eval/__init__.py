"""Evaluation: reports and plots of what agents remembered."""
