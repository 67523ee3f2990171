"""Decode recordings, compute log-mel spectrograms and plan windows."""
