"""Engines inside this process, through their C interfaces: what the rung ``embedded`` runs with."""
