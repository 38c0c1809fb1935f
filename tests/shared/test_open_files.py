"""The limit of open files, which many connections reach first."""

from collections.abc import Iterator

import pytest

from shared.open_files import allow_open_files

resource = pytest.importorskip("resource")


@pytest.fixture(autouse=True)
def _low_limit() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_is_raised_to_what_is_wanted() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert allow_open_files(600) == 600
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (600, hard)


def test_a_limit_that_is_high_enough_stays_as_it_is() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert allow_open_files(100) == 100
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_no_more_than_the_hard_limit_is_had() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no hard limit here")
    assert allow_open_files(hard + 1) == hard
