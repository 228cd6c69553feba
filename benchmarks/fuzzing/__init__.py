"""Damaged inputs of every kind, fed to the product in process: each module makes one from a seed and says how it went.

``run(folder, rng)`` returns ``ok``, ``refused`` or ``set aside``; whatever it raises is a finding.
"""
