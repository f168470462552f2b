"""ModelStore: tuned models, in transactions. The methods wait for the database: call them by `database.run`."""

from __future__ import annotations

import json
from dataclasses import asdict

from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select, update

from serve_apps.platform_app.tuned_models.model_host import ServedFacts
from serve_apps.platform_app.tuned_models.model_record import ModelRecord, model_record
from serve_apps.platform_app.tuned_models.tables import DELETING, LIVE, PREPARING, TUNED_MODELS
from tuneyard.core.errors import ModelNotFoundError
from tuneyard.storage.sql.database import SqlDatabase
from tuneyard.storage.sql.text_keys import text_key


class ModelStore:
    """Models of all owners. The methods with an `owner` see only that owner's, and only those that are LIVE."""

    def __init__(self, database: SqlDatabase) -> None:
        self.database = database

    def find(self, owner: str, name: str) -> ModelRecord | None:
        """The model of that name or version; None if there is none."""
        table = TUNED_MODELS
        named = or_(table.c.name == text_key(name), table.c.version == text_key(name))
        query = select(table).where(table.c.owner == owner, table.c.state == LIVE, named)
        with self.database.reading() as connection:
            row = connection.execute(query).first()
        return model_record(row) if row is not None else None

    def named(self, name: str) -> ModelRecord | None:
        """The model of that name, of any owner and in any state; None if there is none."""
        with self.database.reading() as connection:
            row = connection.execute(select(TUNED_MODELS).where(TUNED_MODELS.c.name == text_key(name))).first()
        return model_record(row) if row is not None else None

    def of_owner(self, owner: str) -> list[ModelRecord]:
        """All models of the owner, oldest first."""
        query = select(TUNED_MODELS).where(TUNED_MODELS.c.owner == owner, TUNED_MODELS.c.state == LIVE)
        with self.database.reading() as connection:
            return [model_record(row) for row in connection.execute(query.order_by(TUNED_MODELS.c.id))]

    def all(self, *states: str) -> list[ModelRecord]:
        """The models of all owners in these states, oldest first; without states in any."""
        query = select(TUNED_MODELS).order_by(TUNED_MODELS.c.id)
        if states:
            query = query.where(TUNED_MODELS.c.state.in_(states))
        with self.database.reading() as connection:
            return [model_record(row) for row in connection.execute(query)]

    def checkpoints_of(self, model_id: str) -> list[ModelRecord]:
        """The models of the earlier checkpoints of a job's model, in any state."""
        query = select(TUNED_MODELS).where(TUNED_MODELS.c.checkpoint_of == model_id).order_by(TUNED_MODELS.c.id)
        with self.database.reading() as connection:
            return [model_record(row) for row in connection.execute(query)]

    def prepare(self, model: ModelRecord) -> None:
        """Registers a model that is about to be served, before its application starts. May be repeated."""
        with self.database.writing(lock=f"model/{model.id}") as connection:
            known = connection.execute(select(TUNED_MODELS.c.id).where(TUNED_MODELS.c.id == model.id)).first()
            if known is None:
                values = asdict(model) | {"state": PREPARING, "headers": json.dumps(model.headers)}
                connection.execute(insert(TUNED_MODELS).values(**values))

    def begin_deletion(self, owner: str, name: str) -> ModelRecord | None:
        """Hides a model from its owner, to be deleted by the reconciler. None if there is none.

        A job's model with those of its earlier checkpoints.
        """
        table = TUNED_MODELS
        with self.database.writing(lock=f"owner/{owner}") as connection:
            query = select(table).where(table.c.owner == owner, table.c.name == text_key(name), table.c.state == LIVE)
            row = connection.execute(query.with_for_update()).first()
            if row is not None:
                connection.execute(update(table).where(_with_checkpoints(row.id)).values(state=DELETING))
        return model_record(row) if row is not None else None

    def restore(self, model_id: str) -> None:
        """Shows a model again that was to be deleted, because it turned out that it must not be.

        A job's model with those of its earlier checkpoints.
        """
        table = TUNED_MODELS
        with self.database.writing(lock=f"model/{model_id}") as connection:
            is_deleting = _with_checkpoints(model_id) & (table.c.state == DELETING)
            connection.execute(update(table).where(is_deleting).values(state=LIVE))

    def forget(self, model_id: str) -> None:
        """Removes the record, the last of what there was of a model. May be repeated.

        A job's model with those of its earlier checkpoints.
        """
        with self.database.writing(lock=f"model/{model_id}") as connection:
            connection.execute(delete(TUNED_MODELS).where(_with_checkpoints(model_id)))


def _with_checkpoints(model_id: str) -> ColumnElement[bool]:
    return or_(TUNED_MODELS.c.id == model_id, TUNED_MODELS.c.checkpoint_of == model_id)


def keep_live(connection: Connection, owner: str, name: str) -> None:
    """Keeps a deletion of the model from beginning before this transaction has ended.

    Raises ModelNotFoundError if the owner has no such model any more.
    """
    table = TUNED_MODELS
    query = select(table.c.id).where(table.c.owner == owner, table.c.name == text_key(name), table.c.state == LIVE)
    if connection.execute(query.with_for_update()).first() is None:
        raise ModelNotFoundError(f"The model {name!r} has been deleted.", param="model", code="model_not_found")


def go_live(connection: Connection, model_id: str, facts: ServedFacts) -> None:
    """Shows a model to its owner. For the transaction in which its job succeeds."""
    values = {"state": LIVE, "max_model_len": facts.max_model_len, "headers": json.dumps(facts.headers)}
    connection.execute(update(TUNED_MODELS).where(TUNED_MODELS.c.id == model_id).values(**values))
