"""Where the files of a job lie."""

import pytest

from cloud_service.services.job_files import job_folder


def test_job_folders_are_named_by_uuids_alone(tmp_path):
    with pytest.raises(ValueError, match="UUID"):
        job_folder(tmp_path, "../../x")
    folder = job_folder(tmp_path, "0b2f9a51-7f2e-4f5c-9b8b-2f2a31b6c0de")
    assert folder == tmp_path / "jobs" / "0b2f9a51-7f2e-4f5c-9b8b-2f2a31b6c0de"
    assert folder.is_dir()
