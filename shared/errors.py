"""The tree of errors. Each has a code that never changes, and an HTTP status.

The cloud sends them as problem details (RFC 9457); the device turns them into outcomes.
"""

from typing import ClassVar


class RecommendationError(Exception):
    """The base class of every error that this project raises on purpose.

    `code` is the last part of the problem type, `status` its HTTP status.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong"

    @property
    def detail(self) -> str:
        """What happened and what to do, in one sentence."""
        return str(self)


class WireError(RecommendationError):
    """A payload that violates the wire format (shared/WIRE.md)."""

    code = "wire"
    status = 400
    title = "The payload breaks the wire format"


class WrongLength(WireError):
    code = "wrong-length"
    title = "The body has the wrong number of bytes"


class LengthRequired(WireError):
    code = "length-required"
    status = 411
    title = "The request has no Content-Length"


class BodyTooLarge(WireError):
    code = "body-too-large"
    status = 413
    title = "The body is larger than any H this model takes"


class NotFinite(WireError):
    code = "not-finite"
    status = 422
    title = "The body holds NaN, infinity, or numbers too large to compute with"


class EmptyHidden(WireError):
    code = "empty-hidden"
    status = 422
    title = "H has no click in it"


class UnusableHidden(WireError):
    code = "unusable-hidden"
    status = 422
    title = "The model gives no finite correction for this H"


class WrongMediaType(WireError):
    code = "wrong-media-type"
    status = 415
    title = "H travels as application/octet-stream"


class BadDeadline(WireError):
    code = "bad-deadline"
    title = "The deadline is no number of milliseconds"


class NotAcceptable(WireError):
    code = "not-acceptable"
    status = 406
    title = "The correction exists in two forms, and this is neither"


class ModelError(RecommendationError):
    """The requested model version cannot answer."""

    code = "model"
    status = 404
    title = "This model version cannot answer"


class UnknownModel(ModelError):
    code = "unknown-model"
    title = "No such model version here"


class RetiredModel(ModelError):
    code = "retired-model"
    status = 410
    title = "This model version was retired: download the production bundle"


class WrongModel(ModelError):
    code = "wrong-model"
    status = 409
    title = "The answer is of another model version"


class BundleError(RecommendationError):
    """A bundle that cannot be opened safely."""

    code = "bundle"
    title = "This bundle cannot be used"


class BundleMissing(BundleError):
    code = "bundle-missing"
    title = "There is no bundle, or a file of it is missing"


class BundleTruncated(BundleError):
    code = "bundle-truncated"
    title = "A file of the bundle has the wrong size"


class BundleTampered(BundleError):
    code = "bundle-tampered"
    title = "A file of the bundle does not have the hash its manifest names"


class BundleTooNew(BundleError):
    code = "bundle-too-new"
    title = "The bundle has a newer format than this program reads"


class BundleInvalid(BundleError):
    code = "bundle-invalid"
    title = "The manifest of the bundle is not valid"


class PatchInvalid(RecommendationError):
    """A stored patch that cannot be used: damaged, not finite, or of another shape."""

    code = "patch-invalid"
    title = "This patch cannot be used"


class StalePatch(PatchInvalid):
    code = "stale-patch"
    title = "This patch belongs to another bundle"


class UnsupportedLearning(RecommendationError):
    """A model that cannot be published with these settings of learning."""

    code = "unsupported-learning"
    status = 422
    title = "A device cannot learn this with that model"


class StoreError(RecommendationError):
    """The device's store of clicks cannot be used as asked."""

    code = "store"
    title = "The store of clicks cannot be used"


class StoreInUse(StoreError):
    code = "store-in-use"
    status = 409
    title = "Another program, or another part of this one, has the store open"


class StoreUnusable(StoreError):
    code = "store-unusable"
    title = "The place of the store is not a folder, or a file of it is not a file"


class StoreTooNew(StoreError):
    code = "store-too-new"
    title = "The store has a newer format than this program reads"


class NotForgotten(StoreError):
    code = "not-forgotten"
    title = "Files of the store could not be removed"


class DataError(RecommendationError):
    """A click log, an item file or a data set that cannot be used. The message says what to do."""

    code = "data"
    status = 422
    title = "The data cannot be used"


class UnknownItem(RecommendationError):
    code = "unknown-item"
    status = 422
    title = "No such item in the catalogue of this model"


class InvalidItem(RecommendationError, TypeError):
    """The caller passed something that is not a catalogue id, or not a list of them."""

    code = "invalid-item"
    status = 422
    title = "This is no catalogue id"


class UnusableProxy(RecommendationError):
    """The environment sets a proxy that connections of this project cannot use."""

    code = "unusable-proxy"
    title = "The proxy of the environment cannot be used"


class JobError(RecommendationError):
    code = "job"
    status = 409
    title = "The job cannot do that"


class UnknownJob(JobError):
    code = "unknown-job"
    status = 404
    title = "No such job"


class Unauthorized(RecommendationError):
    code = "unauthorized"
    status = 401
    title = "This call needs the admin token"


class Forbidden(RecommendationError):
    code = "forbidden"
    status = 403
    title = "This call is closed to you"


class NotReady(RecommendationError):
    code = "not-ready"
    status = 503
    title = "There is no model to serve yet"


class InvalidRequest(RecommendationError):
    code = "invalid-request"
    status = 422
    title = "The request does not fit its schema"
