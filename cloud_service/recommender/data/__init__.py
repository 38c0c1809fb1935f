"""Click logs: reading, cleaning, splitting, making and fetching them."""
