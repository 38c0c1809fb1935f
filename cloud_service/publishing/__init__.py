"""From a recipe to a version in the store, and whether it is put in use."""
