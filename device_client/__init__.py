"""The device: a reranker that learns from clicks and takes the cloud's correction if it is in time.

numpy, onnxruntime, an HTTP client and pydantic; never torch, never the cloud's code.

    bundle = Bundle.open(Path("bundle"))
    with Session(bundle, CorrectionLink.to("http://cloud:8000", bundle)) as session:
        session.click("85123A")
        ranking = session.rerank(candidates)
"""

from device_client.budget import DEFAULT_BUDGET_MS, Budget
from device_client.bundle import Bundle
from device_client.link import CorrectionLink
from device_client.session import Ranking, Session, Timeline
from shared.outcomes import Outcome

__all__ = [
    "DEFAULT_BUDGET_MS",
    "Budget",
    "Bundle",
    "CorrectionLink",
    "Outcome",
    "Ranking",
    "Session",
    "Timeline",
]
