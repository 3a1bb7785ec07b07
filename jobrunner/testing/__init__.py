"""The test kit: agent flows tested in milliseconds, on the same runner as ever.

Time, randomness and order are in the test's hands; delays, limits, retries and validation are those
of production. With pytest there are fixtures: `job_runner`, `job_app`, `job_client`,
`webhook_receiver`, `faults`, and the markers `virtual_time`, `shuffle` and `job_runner`; see
`jobrunner.pytest_plugin`. Nothing here needs pytest: with unittest, `virtual_time` is a decorator.
"""

from .asserting import assert_events, assert_status, assert_submitted, refute_submitted
from .clock import EPOCH, Deadlock, VirtualLoop, VirtualTimeError, simulate, unix_now, virtual_time
from .driven import DrivenRunner, Mode
from .faults import Faults, RateLimited
from .leftovers import LeftBehind
from .performing import Performed, perform_job
from .receiver import Received, WebhookReceiver
from .recording import assert_recorded, normalise
from .scripted import ScriptedModel, ToolCall, Turn
from .strict import NotPortable

__all__ = [
    "EPOCH",
    "Deadlock",
    "DrivenRunner",
    "Faults",
    "LeftBehind",
    "Mode",
    "NotPortable",
    "Performed",
    "RateLimited",
    "Received",
    "ScriptedModel",
    "ToolCall",
    "Turn",
    "VirtualLoop",
    "VirtualTimeError",
    "WebhookReceiver",
    "assert_events",
    "assert_recorded",
    "assert_status",
    "assert_submitted",
    "normalise",
    "perform_job",
    "refute_submitted",
    "simulate",
    "unix_now",
    "virtual_time",
]
