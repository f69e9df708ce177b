"""Keys, who changed what, and the settings: for keys of scope admin alone."""

from datetime import timedelta

from fastapi import APIRouter, Response

from service import administration, bodies, schemas
from service.keys import create_key, revoke_key
from service.requests import CheckedRoute
from service.routes.common import BackendDep, Cursor, Limit, located
from tamis.store.schema import now

router = APIRouter(route_class=CheckedRoute, tags=["administration"])


@router.post("/keys", status_code=201)
def make_key(body: bodies.NewKey, response: Response, backend: BackendDep) -> schemas.MadeKey:
    """The answer alone has the key itself: only its hash is stored."""
    expires_at = None if body.days is None else now() + timedelta(days=body.days)
    key_id, key = create_key(backend.catalog, body.name, body.scope, expires_at, body.quota_bytes)
    located(response, "/keys")
    return schemas.MadeKey(id=key_id, key=key)


@router.get("/keys")
def get_keys(backend: BackendDep) -> schemas.Page[schemas.KeyView]:
    """All that were made, the oldest first; those that are revoked or have expired too."""
    return schemas.Page(items=administration.key_views(backend), next=None)


@router.delete("/keys/{key_id}", status_code=204)
def end_key(key_id: str, backend: BackendDep) -> None:
    """Revokes a key, at once and for good."""
    revoke_key(backend.catalog, key_id)


@router.get("/audit")
def get_audit(backend: BackendDep, cursor: Cursor = None, limit: Limit = 100) -> schemas.Page[schemas.AuditView]:
    """Requests that changed something, or were to, the latest first. No line is ever changed or removed."""
    return administration.audited(backend, cursor, limit)


@router.get("/settings")
def get_settings(backend: BackendDep) -> dict[str, schemas.SettingView]:
    """What this server was told by its environment; passwords are left out."""
    return administration.setting_views(backend)
