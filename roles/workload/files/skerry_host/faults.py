"""What can go wrong on a host, in the shape that the controller shows: a code, a cause, a remedy."""

from __future__ import annotations


class HostError(Exception):
    """A failure that a person can put right; becomes a SkerryError on the controller."""

    def __init__(self, code: str, cause: str, remedy: str) -> None:
        super().__init__(f"{code} {cause}")
        self.code, self.cause, self.remedy = code, cause, remedy

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "cause": self.cause, "remedy": self.remedy}
