"""Makes the pool of samples of a version that was just published, and says what is in it."""

from collections.abc import Callable

from cloud_service.recommender.data.clicks import Split
from cloud_service.recommender.models.scn import SCN
from cloud_service.recommender.pool.build import build_pool, sharing_users
from cloud_service.recommender.pool.pool_file import pool_bytes
from cloud_service.recommender.recipe import PoolRecipe
from cloud_service.storage.port import VersionStore


def publish_pool(
    store: VersionStore,
    version: str,
    scn: SCN,
    split: Split,
    recipe: PoolRecipe,
    seed: int,
    log: Callable[[str], None],
) -> None:
    """Writes the pool of a version; removes an earlier one if no sample may be handed out.

    The same arguments give the same pool.
    """
    pool = build_pool(scn, split, recipe, seed)
    store.write_pool(version, None if pool is None else pool_bytes(pool))
    users = len(sharing_users(split, recipe))
    if pool is not None:
        log(
            f"pool: {len(pool):,} samples from {users:,} users who share them, each of at least "
            f"{pool.sample_users} users within a cosine distance of {pool.radius:.3f}"
        )
    elif recipe.pool == "agreed" and split.log.agreed is None:
        log("pool: empty, the log has no column of consent (agreed)")
    elif recipe.pool != "none":
        log(f"pool: empty, no sample of the {users:,} users who share is one of enough of them")
