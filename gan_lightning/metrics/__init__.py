"""Metrics of sample quality: feature extractors, formulas, and one pass over the images that computes them all."""
