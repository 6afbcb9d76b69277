"""Places of IP addresses, by a MaxMind file (GeoLite2-City and its like), with the extra ``geo``.

In: the file, opened once; an address. Out: a :class:`Spot`, or None for what the file does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from relaymesh.controller.placement import Spot


class GeoError(Exception):
    """The file cannot be used; the text is for people."""


def open_geoip(path: Path) -> Callable[[str], Spot | None]:
    """A function that says where an address is.

    Raises:
        GeoError: the package is not installed, or the file is not of this format.
    """
    try:
        import maxminddb
    except ModuleNotFoundError:
        raise GeoError("--geoip needs the package 'maxminddb': pip install 'relaymesh[geo]'") from None
    try:
        reader: Any = maxminddb.open_database(str(path))
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
        raise GeoError(f"{path}: {error}") from None

    def locate(address: str) -> Spot | None:
        try:
            return _spot(reader.get(address))
        except (ValueError, maxminddb.InvalidDatabaseError):
            return None

    return locate


def _spot(record: object) -> Spot | None:
    """The place in a record of a City database, whatever else may stand there."""
    location = record.get("location") if isinstance(record, dict) else None
    if not isinstance(location, dict):
        return None
    latitude, longitude = location.get("latitude"), location.get("longitude")
    if not isinstance(latitude, int | float) or not isinstance(longitude, int | float):
        return None
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        return None
    return Spot(float(latitude), float(longitude))
