"""The preprocessing of a click log as one value."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from cloud_service.recommender.data.catalog import load
from cloud_service.recommender.data.clicks import MIN_SPLIT, ClickLog
from cloud_service.recommender.recipe import Repeats, Ties


@dataclass(frozen=True)
class Treatment:
    """How a log is read, ordered and filtered; the fields are those of DataRecipe."""

    columns: str | None = None
    ties: Ties = "auto"
    repeats: Repeats = "once"
    max_user_clicks: int | None = None
    min_item: int = 1
    min_user: int = MIN_SPLIT
    iterate_filters: bool = False

    @classmethod
    def of(cls, recipe: object) -> Self:
        """The treatment in a DataRecipe, or in any object with the same attributes."""
        return cls(
            **{name: getattr(recipe, name) for name in (field.name for field in fields(cls))}
        )

    def load(self, data: str, folder: Path, items: Path | None = None) -> ClickLog:
        """Loads a named set or a file (see `catalog.load`). Raises DataError."""
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
