"""The probe: runs and measures programs on a host. Standard library only, Python >= 3.9.

It is shipped as one zip (`skerry.targets.shipping`) and spoken to in frames over standard input and output. Modules
import each other relatively, so the package works under any name.
"""
