"""What `skerry run` is made of: the check of the module, the plan, the runs at once, what is shown."""
