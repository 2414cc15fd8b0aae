"""The rungs of the overhead ladder, one class each; `ALL` has them in the ladder's order."""
