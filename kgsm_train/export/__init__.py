"""From a trained network to proven model files, their card and their catalogue entry."""
