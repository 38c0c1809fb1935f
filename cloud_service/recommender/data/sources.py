"""The published data sets: where each is, what it may be used for, and how it is checked.

Publishers sign nothing. A zip is used only if its sha256 is the pinned one: the value that several
independent public repositories state for it (GroupLens has an MD5 beside each archive, UCI
nothing). Of a prepared text file the sha256 of the converted log is pinned instead, that of the
log on which the published figures were measured: what is trained on is then the same to the byte.
The counts of every converted log are checked as well.
"""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cloud_service.recommender.data import sequences
from cloud_service.recommender.data.publishers import (
    Converted,
    movielens_1m,
    movielens_100k,
    online_retail,
)


@dataclass(frozen=True)
class Source:
    """A data set of a publisher.

    Attributes:
        description: what it is and who made it; the preprocessing of its log begins with it.
        licence: what one may do with it, in short.
        page: where the publisher describes it.
        counts: clicks, users and items of the converted log.
        convert: from the published file to clicks and titles.
        archive: the published file's name here.
        url: where it is downloaded; None where the publisher first asks for an agreement.
        max_bytes: no file that is downloaded is larger.
        sha256: of the published file, in hex; None where it is not known.
        log_sha256: of the converted log as CSV, in hex; None where it is not known.
        editions: the publisher replaces the file from time to time: a log that differs is used,
            with a warning.
        ordered: the publisher's file has clicks that share a time in the order they were made.
    """

    name: str
    description: str
    licence: str
    page: str
    counts: tuple[int, int, int]
    convert: Callable[[Path], Converted]
    archive: str
    url: str | None
    max_bytes: int
    sha256: str | None = None
    log_sha256: str | None = None
    editions: bool = False
    ordered: bool = False


def _unzipped(convert: Callable[[zipfile.ZipFile], Converted]) -> Callable[[Path], Converted]:
    def from_path(path: Path) -> Converted:
        with zipfile.ZipFile(path) as archive:
            return convert(archive)

    return from_path


_MOVIELENS_LICENCE = (
    "research use; cite Harper and Konstan, 2015; no redistribution and no commercial use without "
    "permission"
)
_AMAZON_LICENCE = "none stated; used for research with a citation (McAuley et al., SIGIR 2015)"
_SASREC = "https://raw.githubusercontent.com/kang205/SASRec"

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        source.name: source
        for source in (
            Source(
                name="online-retail",
                description="Online Retail (D. Chen, 2015, UCI id 352): sales of a UK gift shop, "
                "each invoice line a click; without lines that have no customer, cancellations, "
                "quantities or prices not above zero, and codes that are no product",
                licence="CC BY 4.0; attribute D. Chen, 2015, doi 10.24432/C5BW33",
                page="https://archive.ics.uci.edu/dataset/352/online+retail",
                url="https://archive.ics.uci.edu/static/public/352/online+retail.zip",
                archive="online-retail.zip",
                sha256="f5385cbb54bbebf7196389109c6b0621faab0c304e3702548165e71c84aede8b",
                max_bytes=32_000_000,
                counts=(396_337, 4_334, 3_659),
                convert=_unzipped(online_retail),
                ordered=True,
            ),
            Source(
                name="movielens-100k",
                description="MovieLens 100K (GroupLens): film ratings, each a click",
                licence=_MOVIELENS_LICENCE,
                page="https://grouplens.org/datasets/movielens/100k/",
                url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
                archive="ml-100k.zip",
                sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
                max_bytes=8_000_000,
                counts=(100_000, 943, 1_682),
                convert=_unzipped(movielens_100k),
            ),
            Source(
                name="movielens-1m",
                description="MovieLens 1M (GroupLens): film ratings, each a click",
                licence=_MOVIELENS_LICENCE,
                page="https://grouplens.org/datasets/movielens/1m/",
                url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
                archive="ml-1m.zip",
                sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
                max_bytes=8_000_000,
                counts=(1_000_209, 6_040, 3_706),
                convert=_unzipped(movielens_1m),
            ),
            Source(
                name="movielens-1m-sasrec",
                description="MovieLens 1M (GroupLens) as SASRec (Kang and McAuley, ICDM 2018) "
                "prepared it: films with at least 5 ratings; order, but no times",
                licence=_MOVIELENS_LICENCE,
                page="https://github.com/kang205/SASRec",
                url=f"{_SASREC}/master/data/ml-1m.txt",
                archive="ml-1m.txt",
                max_bytes=16_000_000,
                counts=(999_611, 6_040, 3_416),
                log_sha256="4b13132570820ea8cb0107f283e56bae2a9211342cddd93681f26d590ca9784f",
                convert=sequences.pairs,
            ),
            Source(
                name="amazon-beauty",
                description="Amazon reviews (McAuley), category Beauty, as BERT4Rec (Sun et al., "
                "CIKM 2019) prepared them: users with at least 5 reviews; order, but no times",
                licence=_AMAZON_LICENCE,
                page="https://github.com/FeiSun/BERT4Rec",
                url="https://github.com/FeiSun/BERT4Rec/raw/master/data/beauty.txt",
                archive="beauty.txt",
                max_bytes=8_000_000,
                counts=(353_962, 40_226, 54_542),
                log_sha256="b914989e4f1d417f30bd0baf1730ca093ac80ea2b2b51c531ef854155df2971b",
                convert=sequences.pairs,
            ),
            Source(
                name="amazon-beauty-5core",
                description="Amazon reviews (McAuley), category Beauty, as S3-Rec (Zhou et al., "
                "CIKM 2020) prepared them: 5-core; order, but no times",
                licence=_AMAZON_LICENCE,
                page="https://github.com/RUCAIBox/CIKM2020-S3Rec",
                # ICLRec (Chen et al., WWW 2022) publishes the same file.
                url="https://raw.githubusercontent.com/salesforce/ICLRec/"
                "4afb54a036ebbf4166ed5858122d89c0642251a7/data/Beauty.txt",
                archive="beauty-5core.txt",
                max_bytes=4_000_000,
                counts=(198_502, 22_363, 12_101),
                log_sha256="9ea996df836048ed57b4316b2da0d15181a89a48798841063bf1d404c2e7d59b",
                convert=sequences.sequences,
            ),
            Source(
                name="amazon-video-games",
                description="Amazon reviews (McAuley), category Video Games, as SASRec (Kang and "
                "McAuley, ICDM 2018) prepared them; order, but no times",
                licence=_AMAZON_LICENCE,
                page="https://github.com/kang205/SASRec",
                url=f"{_SASREC}/641c378fcfac265ea8d1e5fe51d4d53eb892d1b4/data/Video.txt",
                archive="video-games.txt",
                max_bytes=8_000_000,
                counts=(287_107, 31_013, 23_715),
                log_sha256="b48c5e4c952642681fc3941b4046905d17fb6cfce89ccfc0485b687693ab74b5",
                convert=sequences.pairs,
            ),
            Source(
                name="yelp",
                description="Yelp Open Dataset, reviews of 2019, prepared as S3-Rec (Zhou et al., "
                "CIKM 2020) did: 5-core; order, but no times",
                licence="Yelp's terms of use: academic use, no redistribution",
                page="https://www.yelp.com/dataset",
                url=None,
                archive="yelp_academic_dataset_review.json",
                max_bytes=0,
                counts=(316_354, 30_431, 20_033),
                log_sha256="63349d998d6652679292944f0edc050202b9417f899a49df1f0e3d44cd382394",
                editions=True,
                convert=sequences.yelp,
            ),
        )
    }
)
"""Every set that `fetch` knows, by its name."""
