"""Export trained networks: verified model files, card and catalogue entry."""
