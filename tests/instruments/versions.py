"""Further versions of a published model, without training."""

from datetime import datetime

from cloud_service.storage.port import StoreFile
from cloud_service.storage.store import Store


def published_again(store: Store, version: str, created: datetime) -> str:
    """Publishes the files of a version again, as a version that differs in `created` alone."""
    manifest = store.manifest(version)
    folder = store.version_folder(version)
    files = {
        entry.name: StoreFile((folder / entry.name).read_bytes(), entry.role)
        for entry in manifest.files
    }
    return store.publish(
        files, lambda entries: manifest.model_copy(update={"created": created, "files": entries})
    )
