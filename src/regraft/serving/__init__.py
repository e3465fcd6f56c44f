"""A trained model behind HTTP: a page for people, an endpoint for programs; everything in it is bounded."""
