"""Measurements of the parts, from a seed."""
