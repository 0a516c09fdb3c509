"""Update the store with the rows of an arrival: retrieval, history, correction, models."""
