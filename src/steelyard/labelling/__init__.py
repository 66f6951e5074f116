"""Collects judgements of people: a local web app over one SQLite file.

``store`` owns the SQL, ``select`` chooses what is asked next (pure), ``server`` is the thin HTTP
layer over both, ``export`` writes what learners read. Nothing here trains or simulates.
"""
