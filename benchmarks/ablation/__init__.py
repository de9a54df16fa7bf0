"""What each choice of training at test time and of inference is worth: the default with one choice made otherwise.

`python -m benchmarks.ablation --help` says how it is run; what comes of it is in docs/ttt.md.
"""
