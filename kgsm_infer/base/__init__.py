"""Errors, flags, files, schema, extras and progress: what every room uses."""
