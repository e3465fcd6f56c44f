"""Linear heads on the pooled outputs of several stages, solved in closed form with exact leave-one-out scores."""
