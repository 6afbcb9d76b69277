"""Whether this kernel lets us emulate: tests that need it are skipped with one line where it does not."""

from __future__ import annotations

import pytest

from relaymesh.netsim.emulate.namespaces import why_not
from relaymesh.netsim.emulate.netem import why_no_netem

REASON = why_not()
needs_kernel = pytest.mark.skipif(REASON is not None, reason=f"no emulation here: {REASON}")
NO_NETEM = why_no_netem()
needs_netem = pytest.mark.skipif(NO_NETEM is not None, reason=str(NO_NETEM))
