"""Speed and memory against the formulation that the field's code uses, side by side in one run.

    python -m benchmarks.forget_step     a training step of NPO and RMU
    python -m benchmarks.truth_ratio     scoring right and wrong answers

Both sides are checked to give the same numbers before either is timed.
"""
