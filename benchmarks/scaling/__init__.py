"""What scaling costs: more versions, more items, more devices."""
