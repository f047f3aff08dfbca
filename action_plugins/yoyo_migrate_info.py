"""The same as for yoyo_migrate: the plugin runs the module of the task's own name."""

from __future__ import annotations

from ansible.plugins.loader import action_loader

ActionModule = action_loader.get("yoyo_migrate", class_only=True)
