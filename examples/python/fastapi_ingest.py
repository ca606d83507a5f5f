"""An HTTP endpoint that takes rows and answers when they are on the disk.

    uvicorn fastapi_ingest:app

    curl -d '[{"id": 1, "name": "a"}]' -H 'content-type: application/json' localhost:8000/events

202 means that the rows arrive, whatever happens now to this process, the network or the service. With several
workers (``uvicorn --workers 4``) each has a log of its own: the wrapper is made in the worker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pyarrow as pa
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel

from arrow_zerobus_sdk_wrapper import BufferFullError, ConversionError, ZerobusWrapper

SCHEMA = pa.schema({"id": pa.int64(), "name": pa.string(), "value": pa.int32()})


class Event(BaseModel):
    """One row."""

    id: int
    name: str | None = None
    value: int | None = None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Opens the log when the worker starts, and goes on delivering for a while when it stops."""
    # A caller that waits for room would only wait longer than it likes.
    async with ZerobusWrapper.from_env(on_full="reject") as wrapper:
        app.state.wrapper = wrapper
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/events", status_code=202)
async def events(rows: list[Event], request: Request) -> dict[str, int | None]:
    """Stores the rows of one call as one batch."""
    wrapper: ZerobusWrapper = request.app.state.wrapper
    try:
        batch = pa.RecordBatch.from_pylist([row.model_dump() for row in rows], SCHEMA)
        result = await wrapper.send_batch(batch)
    except (pa.ArrowInvalid, ConversionError) as error:
        raise HTTPException(422, str(error)) from error
    except BufferFullError as error:
        raise HTTPException(503, str(error), {"Retry-After": "5"}) from error
    return {"lsn": result.lsn}


@app.get("/healthz")
async def healthz(request: Request) -> dict[str, Any]:
    """Whether delivery makes progress; rows that wait are no illness, refused credentials are."""
    status = request.app.state.wrapper.status()
    lane = status["lane"]
    if lane["state"] in ("blocked", "poison"):
        raise HTTPException(503, lane["reason"])
    return {"rows": status["rows"], "delivery": lane["state"]}
