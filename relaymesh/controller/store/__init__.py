"""What outlives a controller: keys with revisions, in a file or shared by several controllers.

interface → memory | sqlite | nats (→ nats_client → nats_wire); spec opens one.
"""

from relaymesh.controller.store.interface import NEW, Change, Conflict, Entry, Store, StoreDown
from relaymesh.controller.store.spec import open_store, parse_store

__all__ = ["NEW", "Change", "Conflict", "Entry", "Store", "StoreDown", "open_store", "parse_store"]
