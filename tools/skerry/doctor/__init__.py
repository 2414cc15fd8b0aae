"""Finds out what is wrong: facts are collected in one pass, rules (pure functions) name causes, the likeliest first."""
