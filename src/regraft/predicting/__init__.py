"""What a trained model says of pictures: which they are, how they are seen, what becomes of the answers."""
