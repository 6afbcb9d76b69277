"""Emulate: the real processes, in real time, in network namespaces joined by emulated links."""
