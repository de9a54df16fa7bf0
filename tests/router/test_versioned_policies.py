"""A version's policy is loaded once, its file is read whenever it is asked for, and one made for others is not used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.errors import PolicyFileDamaged, UnknownVersion
from policies.fixed import AlwaysArm
from policies.ledger import Ledger
from policies.policy_files import path_of
from router.hindsight import Loaded
from router.versioned_policies import VersionedPolicies


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path) as opened:
        yield opened


def policies_for(ledger: Ledger, model: str, loaded: list[bytes] | None = None) -> VersionedPolicies:
    def load(content: bytes) -> Loaded:
        if loaded is not None:
            loaded.append(content)
        return Loaded(AlwaysArm(content.decode()))

    return VersionedPolicies(ledger.policy_versions, load, model_fingerprint=model, schema="schema")


def test_a_policy_is_loaded_once_however_it_is_asked_for(ledger: Ledger) -> None:
    loaded: list[bytes] = []
    policies = policies_for(ledger, "base", loaded)
    version = ledger.policy_versions.publish(policies.sealed(b"ttt")).version_id
    usable = policies.usable(version)

    assert usable is not None
    assert usable.policy == AlwaysArm("ttt")
    assert policies.open(version) is policies.usable(version) is usable
    assert loaded == [b"ttt"]


def test_one_made_for_another_base_model_can_be_looked_at_and_not_used(ledger: Ledger) -> None:
    version = ledger.policy_versions.publish(policies_for(ledger, "another").sealed(b"ttt")).version_id
    policies = policies_for(ledger, "base")

    assert policies.usable(version) is None
    assert policies.open(version).policy == AlwaysArm("ttt")


def test_a_file_that_is_damaged_later_is_noticed_by_whoever_wants_to_use_it(ledger: Ledger) -> None:
    policies = policies_for(ledger, "base")
    version = ledger.policy_versions.publish(policies.sealed(b"ttt")).version_id
    policies.usable(version)
    path_of(ledger.policy_versions.folder, version).write_bytes(b"damaged")

    with pytest.raises(PolicyFileDamaged):
        policies.usable(version)
    with pytest.raises(UnknownVersion):
        policies.open("0" * 64)
