"""Faults of the probe: the same shape as the controller's errors, carried in frames."""

from __future__ import annotations


class ProbeError(Exception):
    """Something that the person at the controller can put right."""

    def __init__(self, code: str, cause: str, remedy: str) -> None:
        super().__init__(f"{code} {cause}")
        self.code = code
        self.cause = cause
        self.remedy = remedy

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "cause": self.cause, "remedy": self.remedy}


def disk_full(where: str, error: OSError) -> ProbeError:
    """A write failed: no space, no quota, or something else that the host's disk says."""
    return ProbeError(
        "TARGET_008",
        f"the host cannot store the probe's files in {where}: {error.strerror or error}",
        "free space there, or name another directory with the host variable skerry_run_dir",
    )
