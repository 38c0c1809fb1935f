"""What is measured, as ratios against a yardstick in the same run. One command each."""
