"""The controller: who is in, which way packets go, where streams enter. docs/controller.md walks the stages.

tokens → registry → adjacency · intake → lsdb → metric → routing → plan → publish · rooms; joined in app.
"""
