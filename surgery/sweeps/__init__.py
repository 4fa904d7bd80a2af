"""Grids of edits over adapters, slices, policies, scopes, energy rules and calibration budgets.

`spec` reads a sweep's file, `plan` says what it comes to, `run` carries it out in this process and `on_ray` on
workers, `ledger` knows what is finished, `tables` gives the results the layout of the paper's.
"""
