"""The service manager of this system."""

from __future__ import annotations

import os
import sys

from sdwatch.service.account import user_id
from sdwatch.service.definition import Scope
from sdwatch.service.launchd import Launchd
from sdwatch.service.manager import ServiceManager
from sdwatch.service.systemd import Systemd


def manager_for(name: str, scope: Scope) -> ServiceManager:
    """Return the manager of the service `name` (see service_name) on this system. Raises
    ServiceError where there is none."""
    if sys.platform == "win32":
        from sdwatch.service.windows_service import WindowsService

        return WindowsService(name, scope)
    return Launchd(name, scope) if sys.platform == "darwin" else Systemd(name, scope)


def usual_scope() -> Scope:
    """Return whose service it is where nobody says: on Windows the machine's, elsewhere that of
    the user, unless that is root."""
    if os.name == "nt":
        return Scope.SYSTEM
    return Scope.SYSTEM if sys.platform != "darwin" and user_id() == 0 else Scope.USER
