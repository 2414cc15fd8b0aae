module skerry.dev/tests/kube/definitions

go 1.26.0

// Only files of it are read: the kinds that a chart of the roles brings with it.
require github.com/cert-manager/cert-manager v1.21.2
