"""Sweeps: which jobs one has, how they are launched and survived, what became of them."""
