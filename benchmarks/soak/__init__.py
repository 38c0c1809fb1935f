"""Half an hour of everything at once, and the books of both sides balanced at the end."""
