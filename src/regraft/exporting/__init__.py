"""A trained model as files that others read: one file of code a format."""
