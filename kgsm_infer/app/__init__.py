"""Command line and output files."""
