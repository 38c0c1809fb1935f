"""What is done to a click log before anything is learned from it, as one value."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from cloud_service.recommender.data.catalog import load
from cloud_service.recommender.data.clicks import MIN_SPLIT, ClickLog
from cloud_service.recommender.recipe import Repeats, Ties


@dataclass(frozen=True)
class Treatment:
    """How a log is read, ordered and filtered: see `prepare`, and TrainingRecipe for the names."""

    columns: str | None = None
    ties: Ties = "auto"
    repeats: Repeats = "once"
    max_user_clicks: int | None = None
    min_item: int = 1
    min_user: int = MIN_SPLIT
    iterate_filters: bool = False

    @classmethod
    def of(cls, recipe: object) -> Self:
        """That of a TrainingRecipe, or whatever has its attributes."""
        return cls(
            **{name: getattr(recipe, name) for name in (field.name for field in fields(cls))}
        )

    def load(self, data: str, folder: Path, items: Path | None = None) -> ClickLog:
        """The click log of a named set or of a file (see `load`). Raises DataError."""
        return load(
            data,
            folder=folder,
            items_path=items,
            columns=self.columns,
            ties=self.ties,
            repeats=self.repeats,
            max_user_clicks=self.max_user_clicks,
            min_item=self.min_item,
            min_user=self.min_user,
            iterate=self.iterate_filters,
        )
