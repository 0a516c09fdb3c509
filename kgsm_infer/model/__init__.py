"""Load a model and retrieve soil moisture: card, engines, result, interval, index."""
