"""``relaymesh demo``: a whole mesh on one machine, as real processes, with a page to watch it.

`plan` (what to start) → `processes` (starting, logs, stopping) → `view` (what the mesh says of itself)
→ `page`, `table`, `checks` (the browser, the terminal, the verdict); `app` runs them all, under trio.
Nothing here carries media: that is the nodes' work.
"""
