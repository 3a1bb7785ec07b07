"""Talk to a runner that is served over HTTP, with its own verbs, views and errors.

`JobClient` is for asyncio, `SyncJobClient` the same for scripts, notebooks and threads. Importing
this module loads httpx2; `import jobrunner` doesn't.
"""

from .client_async import JobClient
from .client_batches import RemoteBatch, RemoteItem
from .client_events import OnProgress, Progress
from .client_jobs import ClientOptions, JobType, RemoteJob
from .client_progress import progress_bar
from .client_sync import SyncJobClient, SyncRemoteJob
from .client_sync_batches import SyncRemoteBatch

__all__ = [
    "ClientOptions",
    "JobClient",
    "JobType",
    "OnProgress",
    "Progress",
    "RemoteBatch",
    "RemoteItem",
    "RemoteJob",
    "SyncJobClient",
    "SyncRemoteBatch",
    "SyncRemoteJob",
    "progress_bar",
]
