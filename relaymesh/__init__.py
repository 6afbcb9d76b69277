"""RelayMesh: a cascading relay mesh of WebRTC SFUs."""

__version__ = "0.1.0"
