"""How good a challenger is, and whether it is accepted."""
