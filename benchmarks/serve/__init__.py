"""What the HTTP service costs and stands: overhead, an open loop, overload, kills. `python -m benchmarks.serve -h`"""
