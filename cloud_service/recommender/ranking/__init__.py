"""How well a model ranks: metrics, their significance, chance."""
