"""Runs side by side: what was varied, which configuration leads, and by more than chance or not."""
