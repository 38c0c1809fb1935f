"""Small click logs, in which a network learns a pattern within an epoch or two."""

from pathlib import Path


def small_csv(path: Path) -> None:
    """Writes 60 users with 12 clicks each on 25 items; each user steps at a pace of 1, 2 or 3."""
    rows = [
        f"u{user},i{(user * 7 + step * (1 + user % 3)) % 25},{step}"
        for user in range(60)
        for step in range(12)
    ]
    path.write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
