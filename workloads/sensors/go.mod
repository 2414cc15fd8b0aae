module skerry.dev/workloads/sensors

go 1.24
