"""Read labelled recordings as batches, decoded by threads ahead of the training step.

Every random number is derived from (seed, epoch, index in the epoch), so clips do not depend on threads, processes,
the cache, or an interruption of the run.
"""
