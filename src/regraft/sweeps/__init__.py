"""Sweeps: grid, random and Optuna searches whose jobs are runs that survive each other."""
