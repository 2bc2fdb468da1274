"""How good samples are: formulas, what turns images into features, and the one pass that computes them all."""
