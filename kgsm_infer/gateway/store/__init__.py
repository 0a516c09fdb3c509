"""Keep inputs, values and messages to publish in one SQLite file."""
