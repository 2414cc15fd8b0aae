"""Reads inventories as files: what is in them, what is wrong with them, how they look."""
