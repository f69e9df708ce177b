"""Keys, the audit and the settings as the API and the page of settings show them."""

from typing import Any

import sqlalchemy as sa

from service import schemas
from service.backend import Backend
from service.keys import list_keys
from tamis.store.catalog import page
from tamis.store.quota import bytes_taken
from tamis.store.schema import ApiKey, AuditLine

SECRETS = ("database_password", "s3_secret")


def key_views(backend: Backend) -> list[schemas.KeyView]:
    rows = list_keys(backend.catalog)
    with backend.catalog.reading() as session:
        return [_key_view(row, sum(bytes_taken(session, row.id))) for row in rows]


def _key_view(row: ApiKey, taken: int) -> schemas.KeyView:
    return schemas.KeyView(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        scope=row.scope,
        stands=row.stands,
        bytes=taken,
        quota_bytes=row.quota_bytes,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def audited(backend: Backend, cursor: str | None, limit: int) -> schemas.Page[schemas.AuditView]:
    with backend.catalog.reading() as session:
        rows, following = page(session, sa.select(AuditLine), AuditLine, cursor, limit)
        return schemas.Page(items=[_audit_view(row) for row in rows], next=following)


def _audit_view(row: AuditLine) -> schemas.AuditView:
    return schemas.AuditView(
        key=row.key_id, by=row.by, method=row.method, path=row.path, status=row.status, created_at=row.created_at
    )


def setting_views(backend: Backend) -> dict[str, schemas.SettingView]:
    settings = backend.settings
    fields = type(settings).model_fields
    return {
        f"TAMIS_{name.upper()}": schemas.SettingView(
            value=_harmless(name, getattr(settings, name)),
            default=getattr(settings, name) == field.default,
            description=field.description or "",
        )
        for name, field in fields.items()
        # Of the command line, which sends it elsewhere.
        if name != "api_key"
    }


def _harmless(name: str, value: Any) -> str:
    if name in SECRETS:
        return "***" if value else ""
    if name == "database_url" and value:
        return sa.engine.make_url(value).render_as_string(hide_password=True)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
