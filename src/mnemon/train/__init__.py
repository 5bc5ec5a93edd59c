"""Training: rows, the trainer, checkpoints and the loop. The only layer that needs torch for gradients."""
