"""The one shape of a failure that a person can put right: a code, a cause, a remedy."""

from __future__ import annotations


class CodedError(Exception):
    """A coded failure: ``code``, ``cause`` and ``remedy`` as people read them."""

    def __init__(self, code, cause, remedy):
        super().__init__(f"{code} {cause} | remedy: {remedy}")
        self.code = code
        self.cause = cause
        self.remedy = remedy

    def as_result(self):
        """The keys of a failed task's result."""
        return {"msg": str(self), "code": self.code, "cause": self.cause, "remedy": self.remedy}
