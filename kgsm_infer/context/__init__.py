"""Context of an observation: its field, its scene and the past of its place."""
