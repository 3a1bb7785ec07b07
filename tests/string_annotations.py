"""Handlers whose annotations are strings, as in modules that postpone them."""

from __future__ import annotations

from pydantic import BaseModel

from jobrunner import JobContext, JobRunner
from jobrunner.handlers import Function


class Order(BaseModel):
    """What this module means by an order."""

    number: int


async def ship(ctx: JobContext, order: Order) -> Order:
    return order


def register_local(runner: JobRunner) -> None:
    """Register a handler whose types are defined here, inside a function."""

    class Parcel(BaseModel):
        weight: int

    @runner.job
    async def pack(parcel: Parcel, spare: Parcel | None = None) -> Parcel:
        return parcel

    @runner.job("pack_all", timeout=5.0)
    async def pack_every(parcels: list[Parcel]) -> None:
        pass


def make_shipper() -> Function:
    """Return a function whose annotation can't be found from outside."""

    class Hidden(BaseModel):
        pass

    def take(hidden: Hidden) -> None:
        pass

    return take
