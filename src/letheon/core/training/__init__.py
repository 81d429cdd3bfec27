"""Changing weights: the training loop, its checkpoints, finetuning on rows, and reinforcement from rewards.

May be imported by every package; imports core alone."""
