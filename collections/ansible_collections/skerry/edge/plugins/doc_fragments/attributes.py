"""What most modules say of check mode and of diffs; a module's own words stand in for those here."""

from __future__ import annotations


class ModuleDocFragment:
    """``skerry.edge.attributes`` shows what changes, ``.no_diff`` does not, ``.looks`` changes nothing at all."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    support: full
    description: Nothing is changed; the result says what would be.
  diff_mode:
    support: full
    description: Shows what stood there and what stands there now.
"""

    NO_DIFF = r"""
attributes:
  check_mode:
    support: full
    description: Nothing is changed.
  diff_mode:
    support: none
    description: There is nothing to show.
"""

    LOOKS = r"""
attributes:
  check_mode:
    support: full
    description: Changes nothing anyway and behaves as in a real run.
  diff_mode:
    support: none
    description: There is nothing to show.
"""
