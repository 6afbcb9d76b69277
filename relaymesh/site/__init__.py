"""A site: all cores of a host behind one command and one HTTP address (ADR 0023).

`plan` (what each worker is told) → `supervisor` (starts workers, restarts those that die, stops all)
→ `worker` (the process: a node like any other). `roster` knows how they fare and which is to take
the next client; `router` passes requests on to it. `channel` is what supervisor and worker say to
each other. Media never comes here: each worker has UDP ports of its own.
"""
