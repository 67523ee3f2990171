"""Read labelled recordings as batches, decoded by threads ahead of the training step.

Every random number of a clip is derived from (seed, epoch, index in the epoch), so the clips do not depend on the
number of threads or processes, on the cache, or on an interruption of the run.
"""
