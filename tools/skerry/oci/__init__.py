"""WebAssembly modules as OCI images and artifacts: built here without a daemon, pushed, pulled, looked at."""
