"""The per-byte work of the protocol, as readable references."""
