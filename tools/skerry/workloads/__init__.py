"""The measured programs: their manifests, inputs, toolchains and builds; and projects of people's own."""

from typing import Literal

#: Languages that build to a WASI command.
Language = Literal["c", "zig", "go", "rust", "assemblyscript", "python"]
