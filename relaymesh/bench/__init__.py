"""Measurements of the parts, in virtual time, from a seed."""
