"""What growth costs: more versions, more items, more devices."""
