"""Prepare inputs: backscatter with its incidence angle, vegetation and daily images."""
