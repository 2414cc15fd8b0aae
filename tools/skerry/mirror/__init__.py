"""Mirrors: directories of upstream artifacts with a lock of checksums, for sites without internet."""
