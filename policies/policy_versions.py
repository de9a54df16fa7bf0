"""Policy versions and the aliases that point at them: published once, never changed, promoted by compare-and-set.

The file comes before the row and the row before the promotion, so a crash leaves at worst a file that nobody knows of.
Aliases are append-only too: a move is a row, and the highest epoch of an alias is where it points.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from sqlalchemy import ColumnElement, Connection, RowMapping, insert, select

from policies import policy_files
from policies.database import DamagedRow, Database, Reached
from policies.errors import PromotionLost, RecordRefused, UnknownVersion
from policies.records import Alias, AliasMove, PolicyState, PolicyVersion, StateChange
from policies.tables import ALIAS_MOVES, POLICY_STATES, POLICY_VERSIONS, sealed, whole

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
ROLLED_BACK = "rolled back"  # begins the reason for which there is no champion, where what was learned is still known
ALIASES = (CHAMPION, CHALLENGER, PREVIOUS)


class PolicyVersions:
    """The versions of one ledger, as `Ledger.policy_versions` gives them."""

    def __init__(self, database: Database, folder: Path | None, now: Callable[[], str], reached: Reached) -> None:
        self._database = database
        self._given_folder = folder
        self._now = now
        self._reached = reached

    @property
    def folder(self) -> Path:
        """Where the files are.

        Raises:
            RecordRefused: the ledger is no file and was opened without a folder for them.
        """
        if self._given_folder is None:
            remedy = "Open the ledger with `files=`, a folder that every machine of this ledger shares."
            raise RecordRefused("policy files", "no folder is known", remedy=remedy)
        return self._given_folder

    def publish(
        self,
        content: bytes,
        *,
        parent: str | None = None,
        trained_to_seq: int | None = None,
        metrics: Mapping[str, float] = MappingProxyType({}),
        state: PolicyState = PolicyState.CANDIDATE,
    ) -> PolicyVersion:
        """Keep a trained policy and return its version. The same bytes again change nothing: the first record stands.

        The file is written under the write lock, which `sweep` takes as well and so never sees a file on its way.

        Raises:
            UnknownVersion: there is no such parent.
            RecordRefused: a metric that is not finite, or no folder for files.
            LedgerUnavailable: nothing was acknowledged.
        """
        folder = self.folder
        with self._database.writing() as connection:
            if parent is not None:
                self._required(connection, parent)
            version_id = policy_files.write(folder, content, self._reached)
            found = self._found(connection, version_id)
            if found is not None:
                return found
            made = {
                "version_id": version_id,
                "parent": parent,
                "trained_to_seq": trained_to_seq,
                "metrics": _metrics_json(metrics),
                "size_bytes": len(content),
                "created_at": self._now(),
            }
            connection.execute(insert(POLICY_VERSIONS).values(sealed(POLICY_VERSIONS, made)))
            self._reached("version: row written")
            self._add_state(connection, version_id, state, "published")
            return self._required(connection, version_id)

    def version(self, version_id: str) -> PolicyVersion:
        """Return one version.

        Raises:
            UnknownVersion: there is no such version.
        """
        with self._database.reading() as connection:
            return self._required(connection, version_id)

    def all(self) -> tuple[PolicyVersion, ...]:
        """Return every version, in the order in which they were published."""
        with self._database.reading() as connection:
            states = _last_states(connection)
            found = connection.execute(select(POLICY_VERSIONS).order_by(POLICY_VERSIONS.c.seq)).mappings()
            return tuple(_version(row, states) for row in found)

    def load(self, version_id: str) -> bytes:
        """Return the bytes of a version, once they have been compared with its name.

        Raises:
            UnknownVersion: there is no such version.
            PolicyFileDamaged: its file is missing or damaged; keep what is in use.
        """
        self.version(version_id)
        return policy_files.read(self.folder, version_id)

    def set_state(self, version_id: str, state: PolicyState, reason: str) -> PolicyVersion:
        """Write down how far a version has come, and why.

        Raises:
            UnknownVersion: there is no such version.
        """
        with self._database.writing() as connection:
            self._required(connection, version_id)
            self._add_state(connection, version_id, state, reason)
            return self._required(connection, version_id)

    def history(self, version_id: str) -> tuple[StateChange, ...]:
        """Return every state a version has been in and why, oldest first; empty where there is no such version."""
        query = select(POLICY_STATES).where(POLICY_STATES.c.version_id == version_id).order_by(POLICY_STATES.c.seq)
        with self._database.reading() as connection:
            found = [whole(row, f"a state of policy {version_id!r}") for row in connection.execute(query).mappings()]
        return tuple(StateChange(PolicyState(row["state"]), row["reason"], row["created_at"]) for row in found)

    def moves(self, name: str) -> tuple[AliasMove, ...]:
        """Return every move of an alias and why, oldest first."""
        query = select(ALIAS_MOVES).where(ALIAS_MOVES.c.alias == name).order_by(ALIAS_MOVES.c.epoch)
        with self._database.reading() as connection:
            found = [whole(row, f"a move of {name}") for row in connection.execute(query).mappings()]
        return tuple(AliasMove(row["version_id"], row["epoch"], row["reason"], row["created_at"]) for row in found)

    def alias(self, name: str) -> Alias:
        """Return where an alias points; epoch 0 where it was never set."""
        with self._database.reading() as connection:
            return self._alias(connection, name)

    def point(self, name: str, version_id: str | None, *, expected_epoch: int, reason: str) -> Alias:
        """Point `challenger` or any other alias at a version, or nowhere; for the champion, `promote` does more.

        Raises:
            PromotionLost: the alias is no longer at `expected_epoch`; nothing was changed.
            UnknownVersion: there is no such version.
        """
        with self._database.writing() as connection:
            return self._move(connection, name, version_id, expected_epoch, reason)

    def promote(self, version_id: str, *, expected_epoch: int, reason: str) -> Alias:
        """Make a version the champion, and what it replaces `previous`.

        Args:
            expected_epoch: that of the champion the version was compared with.

        Raises:
            PromotionLost: someone else promoted since; nothing was changed.
            UnknownVersion: there is no such version.
            PolicyFileDamaged: its file would not load.
        """
        self.load(version_id)
        with self._database.writing() as connection:
            replaced = self._alias(connection, CHAMPION).version_id
            champion = self._move(connection, CHAMPION, version_id, expected_epoch, reason)
            self._reached("promotion: champion moved")
            previous = self._alias(connection, PREVIOUS)
            if replaced is not None and replaced != version_id:
                self._move(connection, PREVIOUS, replaced, previous.epoch, reason)
                self._add_state(connection, replaced, PolicyState.RETIRED, reason)
            challenger = self._alias(connection, CHALLENGER)
            if challenger.version_id == version_id:
                self._move(connection, CHALLENGER, None, challenger.epoch, reason)
            self._add_state(connection, version_id, PolicyState.CHAMPION, reason)
            return champion

    def roll_back(self, *, expected_epoch: int, reason: str) -> Alias:
        """Make `previous` the champion again; the two change places. The first champion leaves its place empty: who
        decided before there was any decides again.

        Raises:
            PromotionLost: someone else promoted since; nothing was changed.
            UnknownVersion: there is no champion.
            PolicyFileDamaged: the file of the previous one would not load.
        """
        champion, previous = self.alias(CHAMPION).version_id, self.alias(PREVIOUS).version_id
        if previous is not None:
            return self.promote(previous, expected_epoch=expected_epoch, reason=reason)
        if champion is None:
            raise UnknownVersion(CHAMPION, self._database.place.shown)
        with self._database.writing() as connection:
            nobody = self._move(connection, CHAMPION, None, expected_epoch, f"{ROLLED_BACK}: {reason}")
            self._add_state(connection, champion, PolicyState.RETIRED, reason)
            return nobody

    def sweep(self) -> tuple[Path, ...]:
        """Remove what crashes have left in the folder, which no other ledger may share, and return what that was."""
        with self._database.writing() as connection:
            known = connection.execute(select(POLICY_VERSIONS.c.version_id)).scalars().all()
            strays = policy_files.strays(self.folder, known)
            for path in strays:
                path.unlink()
        return tuple(strays)

    def _move(
        self, connection: Connection, name: str, version_id: str | None, expected_epoch: int, reason: str
    ) -> Alias:
        if name not in ALIASES:
            raise RecordRefused("alias", f"got {name!r}", remedy=f"The aliases are {', '.join(ALIASES)}.")
        if version_id is not None:
            self._required(connection, version_id)
        epoch = self._alias(connection, name).epoch
        if epoch != expected_epoch:
            raise PromotionLost(name, expected_epoch=expected_epoch, epoch=epoch)
        made = {
            "alias": name,
            "epoch": epoch + 1,
            "version_id": version_id,
            "reason": reason,
            "created_at": self._now(),
        }
        # unique per epoch, whatever the code above does
        connection.execute(insert(ALIAS_MOVES).values(sealed(ALIAS_MOVES, made)))
        return Alias(name, version_id, epoch + 1)

    def _alias(self, connection: Connection, name: str) -> Alias:
        moves = select(ALIAS_MOVES).where(ALIAS_MOVES.c.alias == name).order_by(ALIAS_MOVES.c.epoch.desc()).limit(1)
        found = connection.execute(moves).mappings().first()
        if found is None:
            return Alias(name, None, 0)
        whole(found, f"the last move of {name}")
        return Alias(name, found["version_id"], found["epoch"])

    def _required(self, connection: Connection, version_id: str) -> PolicyVersion:
        found = self._found(connection, version_id)
        if found is None:
            raise UnknownVersion(version_id, self._database.place.shown)
        return found

    def _found(self, connection: Connection, version_id: str) -> PolicyVersion | None:
        query = select(POLICY_VERSIONS).where(POLICY_VERSIONS.c.version_id == version_id)
        found = connection.execute(query).mappings().first()
        if found is None:
            return None
        return _version(found, _last_states(connection, POLICY_STATES.c.version_id == version_id))

    def _add_state(self, connection: Connection, version_id: str, state: PolicyState, reason: str) -> None:
        made = {"version_id": version_id, "state": str(state), "reason": reason, "created_at": self._now()}
        connection.execute(insert(POLICY_STATES).values(sealed(POLICY_STATES, made)))


def _last_states(connection: Connection, *which: ColumnElement[bool]) -> dict[str, str]:
    """Return the last state of each version."""
    found = connection.execute(select(POLICY_STATES).where(*which).order_by(POLICY_STATES.c.seq)).mappings()
    return {row["version_id"]: whole(row, f"a state of policy {row['version_id']!r}")["state"] for row in found}


def _version(found: RowMapping, states: Mapping[str, str]) -> PolicyVersion:
    whole(found, f"policy version {found['version_id']!r}")
    if found["version_id"] not in states:  # they are written together
        raise DamagedRow(f"policy version {found['version_id']!r} has lost its state")
    return PolicyVersion(
        version_id=found["version_id"],
        parent=found["parent"],
        trained_to_seq=found["trained_to_seq"],
        metrics=MappingProxyType(json.loads(found["metrics"])),
        size_bytes=found["size_bytes"],
        state=PolicyState(states[found["version_id"]]),
        created_at=found["created_at"],
    )


def _metrics_json(metrics: Mapping[str, float]) -> str:
    try:
        return json.dumps(dict(metrics), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RecordRefused("metrics", str(error), remedy="Every metric must be finite.") from error
