"""What a cluster and its hosts are like now: read in one go, in parallel, with a deadline for each part."""
