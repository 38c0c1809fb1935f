"""The whole evaluation on noise: no model may look better than chance."""
