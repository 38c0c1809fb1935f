"""How well a ranking is: metrics, and the negatives they rank against."""
