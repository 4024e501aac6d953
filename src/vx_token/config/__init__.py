"""The configuration: the model, loading, checks, and edits of its file."""
