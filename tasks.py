"""The tasks of this checkout: ``inv --list`` shows them."""

from ringtasks.tasks import namespace

__all__ = ["namespace"]
