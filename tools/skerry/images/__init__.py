"""Container images without a registry and without an engine: one archive that Docker and containerd both load."""

from skerry.images.archive import Entry, write_image

__all__ = ["Entry", "write_image"]
