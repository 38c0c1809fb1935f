"""The device: a reranker that learns from clicks and takes the cloud's correction if it is in time.

numpy, onnxruntime, an HTTP client and pydantic; never torch, never the cloud's code.

    bundle = Bundle.open(Path("bundle"))
    with Session(bundle, CorrectionLink.to("http://cloud:8000", bundle)) as session:
        session.preload(["22423", "47566"])  # what the user clicked before
        session.click("85123A")
        ranking = session.rerank(candidates)
        for item, score in ranking.ranked: ...

Items are catalogue ids. It logs to `device_client.*`, which says nothing until logging is set up.
"""

import logging

from device_client.bundle import Bundle
from device_client.correction.budget import DEFAULT_BUDGET_MS, Budget
from device_client.correction.link import CorrectionLink
from device_client.items import ItemId
from device_client.ranking import Ranking, Timeline
from device_client.session import Session
from shared.outcomes import Outcome

__all__ = [
    "DEFAULT_BUDGET_MS",
    "Budget",
    "Bundle",
    "CorrectionLink",
    "ItemId",
    "Outcome",
    "Ranking",
    "Session",
    "Timeline",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
