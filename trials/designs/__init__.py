"""Trial designs: boundaries, sample sizes and fast operating characteristics from outcomes of stated distributions.

Each family of designs is a module of its own, imported by name; this file loads none of them.
"""
