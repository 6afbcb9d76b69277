"""The Python side of a participant: publishes and plays by WHIP and WHEP, with real encoders, on aiortc.

This package, and nothing else in RelayMesh, runs on asyncio; it needs the extra ``client``.
"""
