"""Serve the API and the page over HTTP."""
