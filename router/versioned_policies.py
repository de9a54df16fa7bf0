"""The policies that the versions in a ledger are, loaded as they are used, and what says for whom each was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from router.hindsight import Loaded
from router.policy_seal import content_of, header_of, sealed_for

if TYPE_CHECKING:
    from policies.policy_versions import PolicyVersions

Load = Callable[[bytes], Loaded]


class VersionedPolicies:
    """Policies by version. Each is loaded once; `usable` compares its file with its name again.

    Args:
        load: makes the policy of a content.
        model_fingerprint: of the base model in use.
        schema: hash of the features in use.
    """

    def __init__(self, versions: PolicyVersions, load: Load, *, model_fingerprint: str | None, schema: str) -> None:
        self._versions, self._load = versions, load
        self._model_fingerprint, self._schema = model_fingerprint, schema
        self._loaded: dict[str, Loaded] = {}

    def open(self, version_id: str) -> Loaded:
        """Return the policy of a version, whatever it was made for.

        Raises:
            UnknownVersion: there is no such version.
            PolicyFileDamaged: its file is missing or damaged.
        """
        if version_id not in self._loaded:
            self._keep(version_id, content_of(self._versions.load(version_id))[1])
        return self._loaded[version_id]

    def usable(self, version_id: str) -> Loaded | None:
        """Return the policy of a version; None where it was made for another base model or other features.

        Raises:
            UnknownVersion, PolicyFileDamaged: as for `open`.
        """
        header, content = content_of(self._versions.load(version_id))
        if header != header_of(self._model_fingerprint, self._schema):
            return None
        return self._loaded.get(version_id) or self._keep(version_id, content)

    def sealed(self, content: bytes) -> bytes:
        """Return a policy's content under a line that says that it was made for the model and features in use."""
        return sealed_for(content, self._model_fingerprint, self._schema)

    def _keep(self, version_id: str, content: bytes) -> Loaded:
        self._loaded[version_id] = self._load(content)
        return self._loaded[version_id]
