"""The torch library: recipes, click logs, models, ranking, training, export."""
