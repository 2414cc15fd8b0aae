"""What a host says of itself in one exchange: read only, nothing written there, Python 3.9 and its standard library.

`skerry.targets.look` sends these modules to a host and takes one JSON document back (`skerry.look.report.collect`).
"""
