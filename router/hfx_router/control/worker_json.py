"""How a worker looks in the answers of /workers. The field names are sglang-router's."""

from collections.abc import Mapping

import orjson

from hfx_router.workers.jobs import JobState, JobStatus
from hfx_router.workers.worker import Worker

JsonObject = dict[str, object]


def worker_json(worker: Worker, job: JobStatus | None) -> JsonObject:
    """Return a registered worker. The api key never appears."""
    shown: JsonObject = {
        "id": worker.worker_id,
        "url": worker.shown_url,
        "model_id": worker.model_id,
        "priority": worker.spec.priority,
        "cost": worker.spec.cost,
        "worker_type": worker.role,
        "is_healthy": worker.health.is_healthy,
        "load": worker.num_inflight,
        "connection_mode": "HTTP",
        "metadata": _texts(worker.metadata) | worker.spec.labels,
        "disable_health_check": worker.spec.disable_health_check,
    }
    if worker.bootstrap_port is not None:
        shown["bootstrap_port"] = worker.bootstrap_port
    if worker.is_draining:
        shown["is_draining"] = True
    return shown | _job_field(job)


def unregistered_json(worker_id: str, job: JobStatus) -> JsonObject:
    """Return a worker whose registration is under way or has failed, as far as it is known."""
    return {
        "id": worker_id,
        "url": job.worker_url,
        "model_id": "unknown",
        "priority": 0,
        "cost": 1.0,
        "worker_type": "unknown",
        "is_healthy": False,
        "load": 0,
        "connection_mode": "unknown",
        "disable_health_check": False,
    } | _job_field(job)


def job_json(job: JobStatus) -> JsonObject:
    """Return the state of a job."""
    return {
        "job_type": job.job_type,
        "worker_url": job.worker_url,
        "status": job.state,
        "message": job.message,
        "timestamp": int(job.at_unix_s),
    }


def _job_field(job: JobStatus | None) -> JsonObject:
    """Return `job_status`; a completed job shows none, which is what clients wait for."""
    if job is None or job.state is JobState.COMPLETED:
        return {}
    return {"job_status": job_json(job)}


def _texts(metadata: Mapping[str, object]) -> dict[str, str]:
    """Return the values as strings, everything but strings as JSON."""
    return {
        key: value if isinstance(value, str) else orjson.dumps(value).decode()
        for key, value in metadata.items()
    }
