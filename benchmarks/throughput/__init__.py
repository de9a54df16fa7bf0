"""How many tasks are trained on and answered in a time, beside what others would use.

Run it with `python -m benchmarks.throughput`. Every comparison is of ratios within one round of one run; see `rounds`.
What a machine could do at best is in `floor`.
"""
